//! The index of streams in D1, where an operator bound it as INDEX.

use pmx_sync::sql::Value;
use pmx_sync::stream::hub::Statement;
use worker::wasm_bindgen::JsValue;
use worker::{D1Database, Env};

/// The database.
pub(super) struct Index(D1Database);

impl Index {
    /// What is bound.
    pub(super) fn of(env: &Env) -> Option<Self> {
        env.d1("INDEX").ok().map(Self)
    }

    /// Runs statements in one transaction.
    pub(super) async fn write(&self, statements: &[Statement]) -> worker::Result<()> {
        let prepared = statements.iter().map(|statement| {
            let params: Vec<JsValue> = statement.params.iter().map(bound).collect();
            self.0.prepare(statement.text).bind(&params)
        });
        let prepared = prepared.collect::<worker::Result<Vec<_>>>()?;
        self.0.batch(prepared).await.map(drop)
    }
}

fn bound(value: &Value) -> JsValue {
    match value {
        Value::Null => JsValue::NULL,
        // Numbers in an index are seconds, far below 2^53.
        #[expect(clippy::cast_precision_loss, reason = "they are far below 2^53")]
        Value::Integer(number) => JsValue::from_f64(*number as f64),
        Value::Text(text) => JsValue::from_str(text),
        Value::Blob(bytes) => bytes.clone().into(),
    }
}
