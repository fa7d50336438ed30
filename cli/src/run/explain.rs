//! `pmx explain`: the meaning of an error code, and what to do.

use pmx_core::code::Code;
use pmx_sync::rules::RuleCode;
use serde_json::json;

use super::Ended;
use crate::error::Failure;
use crate::suggest::suggest;
use crate::ui::Ui;

pub(super) fn run(code: Option<&str>, ui: &Ui) -> Result<Ended, Failure> {
    match code {
        Some(text) if let Some(rule) = RuleCode::parse(&text.to_ascii_lowercase()) => {
            explain_rule(rule, ui);
        }
        Some(text) => explain(find(text)?, ui),
        None => {
            list(ui);
            list_rules(ui);
        }
    }
    Ok(Ended::Done)
}

fn find(text: &str) -> Result<Code, Failure> {
    let upper = text.to_ascii_uppercase().replace('-', "_");
    let full = if upper.starts_with("E_") {
        upper
    } else {
        format!("E_{upper}")
    };
    Code::from_text(&full).ok_or_else(|| {
        let known: Vec<_> = Code::ALL.iter().map(|code| code.as_str()).collect();
        let hint = match suggest(&full, &known) {
            Some(near) => format!("Did you mean {near}?"),
            None => "`pmx explain` lists all codes.".into(),
        };
        Failure::usage(format!("there is no error code {text:?}")).with_hint(hint)
    })
}

fn explain(code: Code, ui: &Ui) {
    ui.object("code", &body(code));
    ui.result(format!("{code} (exit code {})", exit(code)));
    ui.result("");
    ui.result(code.explanation());
    ui.result("");
    ui.result(code.hint());
}

fn explain_rule(code: RuleCode, ui: &Ui) {
    let body = json!({"code": code, "explanation": code.explanation()});
    ui.object("code", &body);
    ui.result(format!("{code} (of a rule file)"));
    ui.result("");
    ui.result(code.explanation());
}

fn list(ui: &Ui) {
    for &code in Code::ALL {
        ui.object("code", &body(code));
        ui.result(format!(
            "{:<22} {:>3}  {}",
            code.as_str(),
            exit(code),
            code.explanation()
        ));
    }
}

fn list_rules(ui: &Ui) {
    for &code in RuleCode::ALL {
        let body = json!({"code": code, "explanation": code.explanation()});
        ui.object("code", &body);
        ui.result(format!("{:<22}      {}", code.as_str(), code.explanation()));
    }
}

fn exit(code: Code) -> u8 {
    Failure::new(code, "").exit()
}

fn body(code: Code) -> serde_json::Value {
    json!({
        "code": code,
        "exit": exit(code),
        "status": code.status(),
        "explanation": code.explanation(),
        "hint": code.hint(),
        "retriable": code.retriable(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_found_however_they_are_spelt() {
        for text in ["E_CONFLICT", "e_conflict", "conflict", "e-conflict"] {
            assert_eq!(find(text), Ok(Code::Conflict));
        }
        let failure = find("E_CONFLIT").unwrap_err();
        assert_eq!(
            (failure.exit(), failure.hint.as_str()),
            (2, "Did you mean E_CONFLICT?")
        );
    }
}
