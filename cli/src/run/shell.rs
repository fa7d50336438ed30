//! `pmx completions` and `pmx man`: descriptions of the command line, for shells and man.

use std::path::Path;

use clap::CommandFactory;
use pmx_core::code::Code;

use super::Ended;
use crate::args::Cli;
use crate::error::Failure;
use crate::ui::Ui;

pub(super) fn completions(shell: clap_complete::Shell, ui: &Ui) -> Ended {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "pmx", &mut script);
    ui.raw(&script);
    Ended::Done
}

pub(super) fn man(dir: Option<&Path>, ui: &Ui) -> Result<Ended, Failure> {
    let command = Cli::command();
    let Some(dir) = dir else {
        let mut page = Vec::new();
        let rendered = clap_mangen::Man::new(command).render(&mut page);
        rendered.map_err(|error| {
            Failure::new(Code::Local, format!("can't make the manual page: {error}"))
        })?;
        ui.raw(&page);
        return Ok(Ended::Done);
    };
    std::fs::create_dir_all(dir)
        .and_then(|()| clap_mangen::generate_to(command, dir))
        .map_err(|error| Failure::local("can't write manual pages to", dir, &error))?;
    Ok(Ended::Done)
}
