//! `pmx doctor`: the first hour of a deployed Worker as a list of checks. Each reports what it saw.
//!
//! The command prints no secret, and sends one only by https (or to this machine). Its small sites
//! stay in a separate space.

mod board;
mod decode;
mod edge;
mod load;
mod pages;
mod redeploy;
mod sites;
mod sockets;
mod updates;
mod visit;

use std::time::Duration;

use super::{Context, Ended};
use crate::args::DoctorArgs;
use crate::config::SiteConfig;
use crate::error::Failure;
use crate::server::LinkSecurity;

use board::{CheckFinding, DoctorBoard};
use sites::Publisher;
use visit::Visitor;

/// State that all checks share.
struct Doctor<'a> {
    args: &'a DoctorArgs,
    context: &'a Context<'a>,
    site: SiteConfig,
    visitor: Visitor,
    board: DoctorBoard<'a>,
}

pub(super) fn run(args: &DoctorArgs, context: &Context<'_>) -> Result<Ended, Failure> {
    let here = std::path::Path::new(".");
    let site = context.layers.site(&args.site(), here)?;
    if site.server.reach() == LinkSecurity::Plain {
        let message = format!("{} is reached by plain http over a network", site.server);
        let hint = "Name the address by https: a token may be sent there, and is not by http.";
        return Err(Failure::usage(message).with_hint(hint));
    }
    let doctor = Doctor {
        args,
        context,
        visitor: Visitor::new(&site)?,
        board: DoctorBoard::new(context.ui),
        site,
    };
    doctor.edge()?;
    if doctor.site.token.is_some() {
        doctor.published()?;
    } else {
        doctor.skip_published("there is no token: set PMX_TOKEN, or pass --token-file");
    }
    Ok(doctor.board.end())
}

/// The checks that need a site, in their order.
const PUBLISHED: [&str; 10] = [
    "publish",
    "encodings",
    "revalidation",
    "head",
    "dictionary",
    "preview",
    "update",
    "load",
    "sockets",
    "redeploy",
];

impl Doctor<'_> {
    /// The checks that need no token.
    fn edge(&self) -> Result<(), Failure> {
        self.see("edge", || self.edge_of_server())?;
        self.see("hosts", || self.apex_and_api())?;
        self.see("http", || self.plain_http())?;
        self.see("streams", || self.streams_closed())
    }

    /// The checks that need sites.
    fn published(&self) -> Result<(), Failure> {
        let publisher = Publisher::new(&self.site, self.context)?;
        let first = match publisher.publish(&publisher.version(1), None) {
            Ok(first) => first,
            Err(failure) => {
                self.context.interrupt.check()?;
                let why = failure.message.lines().next().unwrap_or_default();
                let finding = CheckFinding::failed(format!("{}: {why}", failure.code));
                self.board.note("publish", &finding.hint(&failure.hint));
                self.skip_rest("nothing was published");
                return Ok(());
            }
        };
        let seen = format!("{} shows deploy {}", first.url, first.deploy);
        self.board.note("publish", &CheckFinding::ok(seen));
        self.see("encodings", || self.encodings(&first))?;
        self.see("revalidation", || self.revalidation(&first))?;
        self.see("head", || self.head(&first))?;
        let kept = self.kept(&first);
        self.check("preview", || self.preview(&publisher))?;
        let mut second = None;
        self.check("update", || self.update(&publisher, &first, &mut second))?;
        let difference = || self.dictionary(kept.as_ref(), second.as_ref());
        self.see("dictionary", difference)?;
        self.check("load", || self.load())?;
        self.sockets(&first)
    }

    fn check(
        &self,
        name: &'static str,
        check: impl FnOnce() -> Result<CheckFinding, Failure>,
    ) -> Result<(), Failure> {
        self.context.interrupt.check()?;
        let finding = check()?;
        // A check that an interrupt ends gives no finding.
        self.context.interrupt.check()?;
        self.board.note(name, &finding);
        Ok(())
    }

    /// Runs a check that only the server can fail.
    fn see(&self, name: &'static str, check: impl FnOnce() -> CheckFinding) -> Result<(), Failure> {
        self.check(name, || Ok(check()))
    }

    fn skip_published(&self, why: &str) {
        self.board.note(PUBLISHED[0], &CheckFinding::skipped(why));
        self.skip_rest(why);
    }

    fn skip_rest(&self, why: &str) {
        for name in &PUBLISHED[1..] {
            self.board.note(name, &CheckFinding::skipped(why));
        }
    }

    /// How long a deploy is watched.
    fn watch(&self) -> Duration {
        Duration::from_secs(self.args.watch.into())
    }
}
