//! Open problems of a watch: each is reported once at its beginning, and once at its end.

use std::collections::BTreeMap;

use pmx_core::code::Code;
use serde_json::json;

use crate::error::Failure;
use crate::ui::Ui;

/// Paths or lines of a failure that open pages show.
const ITEMS_MAX: usize = 20;

/// Subject of a problem. Each subject has at most one problem at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum About {
    /// The system does not report changes.
    Watching,
    /// The folder can't be read.
    Folder,
    /// Some paths can't be published.
    Paths,
    /// The server refuses the site.
    Publishing,
}

impl About {
    const fn over(self) -> &'static str {
        match self {
            Self::Watching => "all is well again: the system reports changes of the folder",
            Self::Folder => "all is well again: the folder can be read",
            Self::Paths => "all is well again: every path of the folder is published",
            Self::Publishing => "all is well again: the site is published",
        }
    }
}

/// The open problems.
pub(super) struct OpenProblems<'a> {
    ui: &'a Ui,
    standing: BTreeMap<About, Vec<String>>,
    /// Shows the problems in open pages.
    show: Box<dyn Fn(Vec<String>) + 'a>,
}

impl<'a> OpenProblems<'a> {
    pub(super) fn new(ui: &'a Ui, show: Box<dyn Fn(Vec<String>) + 'a>) -> Self {
        Self {
            ui,
            standing: BTreeMap::new(),
            show,
        }
    }

    /// Whether there is a problem of this kind.
    pub(super) fn has(&self, about: About) -> bool {
        self.standing.contains_key(&about)
    }

    /// The lines of a problem, if it is open.
    pub(super) fn lines(&self, about: About) -> &[String] {
        self.standing.get(&about).map_or(&[], Vec::as_slice)
    }

    /// Warns of a problem, unless it is open already.
    pub(super) fn warn(&mut self, about: About, lines: Vec<String>) {
        if self.lines(about) != lines {
            for line in &lines {
                self.ui.warn(line);
            }
            self.stand(about, lines);
        }
    }

    /// Prints a failure, unless its problem is open already.
    pub(super) fn fail(&mut self, about: About, failure: &Failure) {
        let message = failure.message.lines().map(ToOwned::to_owned);
        let items = failure.items.iter().take(ITEMS_MAX).cloned();
        let lines: Vec<String> = message.chain(items).collect();
        // The end of the command reports the interrupt.
        if self.lines(about) != lines && failure.code != Code::Interrupted {
            self.ui.failed(failure);
            self.stand(about, lines);
        }
    }

    /// Forgets a problem, so that the next one is reported again.
    pub(super) fn forget(&mut self, about: About) {
        if let Some(lines) = self.standing.get_mut(&about) {
            lines.clear();
        }
    }

    /// Ends a problem, and reports that if it was open.
    pub(super) fn over(&mut self, about: About) {
        if self.standing.remove(&about).is_some() {
            self.ui.note(about.over());
            self.ui
                .object("recovered", &json!({ "message": about.over() }));
            self.shown();
        }
    }

    fn stand(&mut self, about: About, lines: Vec<String>) {
        self.standing.insert(about, lines);
        self.shown();
    }

    fn shown(&self) {
        (self.show)(self.standing.values().flatten().cloned().collect());
    }
}
