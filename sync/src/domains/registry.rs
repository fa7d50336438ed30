//! Domain registry: the claims of all spaces of a server, in SQL, with one writer.
//!
//! One registry decides for all spaces, because a host belongs to at most one of them. Readers use
//! a copy of its routes; the outbox has the hosts whose copy is late.

use pmx_core::code::Code;
use pmx_core::name::SpaceName;
use pmx_core::problem::Problem;
use pmx_core::schema::{Compatibility, Schema, SchemaError};
use pmx_core::sql::{Sql, SqlError, SqlRow, Value};
use pmx_core::time::Timestamp;

use super::claim::{Claim, ClaimState, Finding};
use super::command::{ClaimRandomness, DomainCommand, DomainReply, Route};
use super::host::CustomHost;
use super::secrets::{Challenge, ServerId};
use crate::limits::{DOMAINS_MAX, DOMAINS_OF_SPACE_MAX};

const SCHEMA: Schema = Schema {
    database: "the registry of domains",
    table: "meta",
    version: 1,
    readable_by: 1,
};

const TABLES: [&str; 5] = [
    "CREATE TABLE IF NOT EXISTS meta (
        key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT, WITHOUT ROWID",
    // `claim` is JSON. `due` is the time of the next lookup; none where nothing is looked up.
    "CREATE TABLE IF NOT EXISTS domain (
        host TEXT NOT NULL, space TEXT NOT NULL, claim TEXT NOT NULL, due INTEGER,
        PRIMARY KEY (host, space)) STRICT, WITHOUT ROWID",
    "CREATE INDEX IF NOT EXISTS domain_space ON domain (space)",
    "CREATE INDEX IF NOT EXISTS domain_due ON domain (due) WHERE due IS NOT NULL",
    "CREATE TABLE IF NOT EXISTS domain_outbox (
        host TEXT PRIMARY KEY) STRICT, WITHOUT ROWID",
];

/// Claims that one turn of the alarm looks up. The next turn follows at once.
const DUE_AT_ONCE: u64 = 16;

/// Routes that one turn writes to the readers' copy.
const ROUTES_AT_ONCE: u64 = 16;

/// Carries out a command on the registry's database.
pub fn execute<S: Sql>(
    sql: &S,
    command: DomainCommand,
    now: Timestamp,
) -> Result<DomainReply, Problem> {
    let registry = Registry { sql, now };
    registry.prepare()?;
    sql.atomically(|sql| Registry { sql, now }.run(command))
}

/// The registry while it carries out one command.
struct Registry<'a, S> {
    sql: &'a S,
    now: Timestamp,
}

impl<S: Sql> Registry<'_, S> {
    /// Creates the tables, or refuses a database of newer code.
    fn prepare(&self) -> Result<(), SchemaError> {
        // Without tables the query fails, and the statements below say why if they fail as well.
        if let Ok(Some(recorded)) = SCHEMA.recorded(self.sql) {
            return match SCHEMA.check(recorded)? {
                Compatibility::Use | Compatibility::Migrate { .. } => Ok(()),
            };
        }
        self.sql.atomically(|sql| {
            for statement in TABLES {
                sql.run(statement, &[])?;
            }
            SCHEMA.record(sql)
        })?;
        Ok(())
    }

    fn run(&self, command: DomainCommand) -> Result<DomainReply, Problem> {
        match command {
            DomainCommand::Add {
                host,
                space,
                is_trusted,
                fresh,
            } => {
                let claim = self.add(host, space, is_trusted, fresh)?;
                self.claims(vec![claim])
            }
            DomainCommand::List { space } => self.claims(self.of_space(&space)?),
            DomainCommand::Record {
                host,
                space,
                challenge,
                finding,
            } => {
                let claim = self.record(&host, &space, challenge, finding)?;
                self.claims(vec![claim])
            }
            DomainCommand::Remove { host, space } => {
                let claim = self.claim(&host, &space)?;
                claim.iter().try_for_each(|claim| self.remove(claim))?;
                Ok(DomainReply::Removed(claim.iter().len() as u64))
            }
            DomainCommand::RemoveSpace { space } => {
                let claims = self.of_space(&space)?;
                claims.iter().try_for_each(|claim| self.remove(claim))?;
                Ok(DomainReply::Removed(claims.len() as u64))
            }
            DomainCommand::Due => self.due(),
            DomainCommand::PendingRoutes => {
                let select = "SELECT host FROM domain_outbox ORDER BY host LIMIT ?";
                self.routes(&self.sql.run(select, &[ROUTES_AT_ONCE.into()])?)
            }
            DomainCommand::AckRoute { host, route } => {
                if self.route(&host)? == route {
                    let delete = "DELETE FROM domain_outbox WHERE host = ?";
                    self.sql.run(delete, &[host.as_str().into()])?;
                }
                Ok(DomainReply::Removed(0))
            }
            DomainCommand::Routes => {
                let select = "SELECT DISTINCT host FROM domain ORDER BY host";
                self.routes(&self.sql.run(select, &[])?)
            }
        }
    }

    fn add(
        &self,
        host: CustomHost,
        space: SpaceName,
        is_trusted: bool,
        fresh: ClaimRandomness,
    ) -> Result<Claim, Problem> {
        let insert = "INSERT OR IGNORE INTO meta (key, value) VALUES ('server', ?)";
        self.sql.run(insert, &[fresh.server.to_string().into()])?;
        self.not_taken(&host, &space)?;
        let known = self.claim(&host, &space)?;
        if known.is_none() {
            self.has_room(&space)?;
        }
        let claim = known.unwrap_or(Claim {
            host,
            space,
            challenge: fresh.challenge,
            added: self.now,
            checked: None,
            standing: ClaimState::Pending,
        });
        // The operator's word lasts until the claim is removed.
        let standing = if is_trusted {
            ClaimState::Trusted
        } else {
            claim.standing
        };
        let claim = Claim { standing, ..claim };
        self.put(&claim)?;
        Ok(claim)
    }

    fn record(
        &self,
        host: &CustomHost,
        space: &SpaceName,
        challenge: Challenge,
        finding: Finding,
    ) -> Result<Claim, Problem> {
        let claim = self.claim(host, space)?;
        let claim = claim.filter(|claim| claim.challenge == challenge);
        let claim = claim.ok_or_else(|| absent(host, space))?;
        let found = claim.clone().found(finding, self.now);
        let gains = found.is_served(self.now) && !claim.is_served(self.now);
        let others = self.of_host(host)?.into_iter();
        let others: Vec<_> = others.filter(|other| other.space != *space).collect();
        if gains && others.iter().any(Claim::is_firm) {
            // The host stays with the space that has it: only its own record or removal ends that.
            let waits = Claim {
                checked: Some(self.now),
                ..claim
            };
            self.put(&waits)?;
            return Ok(waits);
        }
        if gains {
            // A claim whose record is gone gives way to one whose record is there.
            let served = others.iter().filter(|other| other.is_served(self.now));
            served.clone().try_for_each(|other| self.remove(other))?;
        }
        self.put(&found)?;
        Ok(found)
    }

    /// Refuses a host that another space has.
    fn not_taken(&self, host: &CustomHost, space: &SpaceName) -> Result<(), Problem> {
        let others = self.of_host(host)?.into_iter();
        let mut others = others.filter(|other| other.space != *space);
        if !others.any(|other| other.is_served(self.now)) {
            return Ok(());
        }
        let detail = format!("{host} is a domain of another space of this server");
        Err(Problem::new(Code::DomainTaken, detail))
    }

    fn has_room(&self, space: &SpaceName) -> Result<(), Problem> {
        let own = self.count(
            "SELECT count(*) FROM domain WHERE space = ?",
            &[space.as_str().into()],
        )?;
        let all = self.count("SELECT count(*) FROM domain", &[])?;
        let detail = if own >= DOMAINS_OF_SPACE_MAX {
            format!("{space} has {own} domains already")
        } else if all >= DOMAINS_MAX {
            format!("the server has {all} domains already")
        } else {
            return Ok(());
        };
        Err(Problem::new(Code::TooManyDomains, detail))
    }

    fn due(&self) -> Result<DomainReply, Problem> {
        let select = "SELECT claim FROM domain WHERE due <= ? ORDER BY due LIMIT ?";
        let params = [self.now.as_millis().into(), DUE_AT_ONCE.into()];
        let (over, claims): (Vec<Claim>, Vec<Claim>) = self
            .select(select, &params)?
            .into_iter()
            .partition(|claim| claim.is_over(self.now));
        over.iter().try_for_each(|claim| self.remove(claim))?;
        for claim in &claims {
            // A turn that ends before it records its findings is repeated in an hour.
            self.set_due(claim, Some(self.now.after(RETRY_TIME)))?;
        }
        let next = self
            .sql
            .run("SELECT min(due) FROM domain WHERE due IS NOT NULL", &[])?;
        let next = match next.first().and_then(|row| row.first()) {
            Some(Value::Integer(at)) => {
                Some(Timestamp::from_millis(u64::try_from(*at).unwrap_or(0)))
            }
            _ => None,
        };
        let server = self.server()?;
        Ok(DomainReply::Due {
            server,
            claims,
            next,
        })
    }

    fn remove(&self, claim: &Claim) -> Result<(), SqlError> {
        let delete = "DELETE FROM domain WHERE host = ? AND space = ?";
        let params = [claim.host.as_str().into(), claim.space.as_str().into()];
        self.sql.run(delete, &params)?;
        self.announce(&claim.host)
    }

    fn put(&self, claim: &Claim) -> Result<(), SqlError> {
        let upsert = "INSERT INTO domain (host, space, claim) VALUES (?, ?, ?)
             ON CONFLICT (host, space) DO UPDATE SET claim = excluded.claim";
        let text = serde_json::to_string(claim).map_err(|e| SqlError(e.to_string()))?;
        let params = [
            claim.host.as_str().into(),
            claim.space.as_str().into(),
            text.into(),
        ];
        let before = self.route(&claim.host)?;
        self.sql.run(upsert, &params)?;
        self.set_due(claim, claim.due())?;
        // Readers stop at the end of the grace on their own; the route of that time is taken away.
        let stopped = claim.ends().is_some_and(|ends| ends <= self.now);
        if stopped || self.route(&claim.host)? != before {
            self.announce(&claim.host)?;
        }
        Ok(())
    }

    fn set_due(&self, claim: &Claim, due: Option<Timestamp>) -> Result<(), SqlError> {
        let update = "UPDATE domain SET due = ? WHERE host = ? AND space = ?";
        let params = [
            due.map(Timestamp::as_millis).into(),
            claim.host.as_str().into(),
            claim.space.as_str().into(),
        ];
        self.sql.run(update, &params).map(drop)
    }

    /// Queues the route of a host for the readers' copy.
    fn announce(&self, host: &CustomHost) -> Result<(), SqlError> {
        let insert = "INSERT OR IGNORE INTO domain_outbox (host) VALUES (?)";
        self.sql.run(insert, &[host.as_str().into()]).map(drop)
    }

    fn routes(&self, rows: &[SqlRow]) -> Result<DomainReply, Problem> {
        let mut routes = Vec::new();
        for row in rows {
            let host = CustomHost::parse(text(row)?).map_err(|e| SqlError(e.to_string()))?;
            let route = self.route(&host)?;
            routes.push((host, route));
        }
        Ok(DomainReply::Routes(routes))
    }

    fn route(&self, host: &CustomHost) -> Result<Option<Route>, SqlError> {
        let claims = self.of_host(host)?;
        let served = claims.into_iter().find(|claim| claim.is_served(self.now));
        Ok(served.map(|claim| Route {
            until: claim.ends(),
            space: claim.space,
        }))
    }

    fn claims(&self, claims: Vec<Claim>) -> Result<DomainReply, Problem> {
        let server = self.server()?;
        Ok(DomainReply::Claims { server, claims })
    }

    fn server(&self) -> Result<Option<ServerId>, SqlError> {
        let rows = self
            .sql
            .run("SELECT value FROM meta WHERE key = 'server'", &[])?;
        let Some(row) = rows.first() else {
            return Ok(None);
        };
        let id = ServerId::parse(text(row)?);
        id.map(Some)
            .ok_or_else(|| SqlError("the server's id is malformed".to_owned()))
    }

    fn claim(&self, host: &CustomHost, space: &SpaceName) -> Result<Option<Claim>, SqlError> {
        let select = "SELECT claim FROM domain WHERE host = ? AND space = ?";
        let params = [host.as_str().into(), space.as_str().into()];
        Ok(self.select(select, &params)?.into_iter().next())
    }

    fn of_host(&self, host: &CustomHost) -> Result<Vec<Claim>, SqlError> {
        let select = "SELECT claim FROM domain WHERE host = ? ORDER BY space";
        self.select(select, &[host.as_str().into()])
    }

    fn of_space(&self, space: &SpaceName) -> Result<Vec<Claim>, SqlError> {
        let select = "SELECT claim FROM domain WHERE space = ? ORDER BY host";
        self.select(select, &[space.as_str().into()])
    }

    fn select(&self, statement: &str, params: &[Value]) -> Result<Vec<Claim>, SqlError> {
        let rows = self.sql.run(statement, params)?;
        let claims = rows.iter().map(|row| {
            let claim = serde_json::from_str(text(row)?);
            claim.map_err(|error| SqlError(format!("reading a claim: {error}")))
        });
        claims.collect()
    }

    fn count(&self, statement: &str, params: &[Value]) -> Result<u64, SqlError> {
        let rows = self.sql.run(statement, params)?;
        match rows.first().and_then(|row| row.first()) {
            Some(Value::Integer(count)) => Ok(u64::try_from(*count).unwrap_or(0)),
            _ => Err(SqlError("a count is no number".to_owned())),
        }
    }
}

/// When a turn that did not end is repeated.
const RETRY_TIME: std::time::Duration = std::time::Duration::from_hours(1);

fn text(row: &SqlRow) -> Result<&str, SqlError> {
    match row.first() {
        Some(Value::Text(text)) => Ok(text),
        _ => Err(SqlError("a column is no text".to_owned())),
    }
}

fn absent(host: &CustomHost, space: &SpaceName) -> Problem {
    Problem::new(Code::NotFound, format!("{space} has no domain {host}"))
}
