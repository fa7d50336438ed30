//! The index of streams in D1, where an operator bound it as INDEX.

use std::cell::Cell;

use pmx_core::sql::Value;
use pmx_streams::hub::{MAKE_VERSIONS, READ_VERSIONS, Statement, migrations};
use serde::Deserialize;
use worker::wasm_bindgen::JsValue;
use worker::{D1Database, Env};

/// The database.
pub(super) struct Index {
    database: D1Database,
    /// Whether its tables are known to be those that this release writes.
    is_settled: Cell<bool>,
}

/// A number that the database records about its tables.
#[derive(Deserialize)]
struct Recorded {
    key: String,
    value: String,
}

impl Index {
    /// What is bound.
    pub(super) fn of(env: &Env) -> Option<Self> {
        let database = env.d1("INDEX").ok()?;
        Some(Self {
            database,
            is_settled: Cell::new(false),
        })
    }

    /// Runs statements in one transaction, the first ones after the tables were brought up to date.
    pub(super) async fn write(&self, statements: &[Statement]) -> worker::Result<()> {
        if !self.is_settled.get() {
            self.run(&self.migrations().await?).await?;
            self.is_settled.set(true);
        }
        self.run(statements).await
    }

    async fn migrations(&self) -> worker::Result<Vec<Statement>> {
        self.database.prepare(MAKE_VERSIONS).run().await?;
        let read = self.database.prepare(READ_VERSIONS).all().await?;
        let recorded: Vec<Recorded> = read.results()?;
        let recorded = recorded.iter().map(|one| (&*one.key, &*one.value));
        migrations(recorded).map_err(|error| worker::Error::RustError(error.to_string()))
    }

    async fn run(&self, statements: &[Statement]) -> worker::Result<()> {
        if statements.is_empty() {
            return Ok(());
        }
        let prepared = statements.iter().map(|statement| {
            let params: Vec<JsValue> = statement.params.iter().map(bound).collect();
            self.database.prepare(statement.text).bind(&params)
        });
        let prepared = prepared.collect::<worker::Result<Vec<_>>>()?;
        self.database.batch(prepared).await.map(drop)
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
