//! Reports to the hub: updates of a stream, one batch at a time.

use pmx_core::problem::Problem;
use worker::console_error;

use super::notify::timeout;
use super::single_flight::LOST;
use super::stream::Stream;
use crate::http::now;
use crate::js_error::problem;

impl Stream {
    /// Reports updates to the hub until it has acknowledged all of them, or until one fails.
    pub(super) async fn report(&self) {
        let reporting = &self.hub.reporting;
        let _flight = loop {
            let seen = reporting.done().version();
            match reporting.try_begin(now()) {
                Some(flight) => break flight,
                None => drop(timeout(LOST, reporting.done().notified(seen)).await),
            }
        };
        if let Err(problem) = self.report_all().await {
            console_error!("{problem}");
        }
    }

    async fn report_all(&self) -> Result<(), Problem> {
        let engine = self.engine();
        let failed = |error: pmx_core::sql::SqlError| {
            problem("reading updates for the hub")(error.to_string())
        };
        while let Some(update) = engine.hub_update().map_err(failed)? {
            match self.hub.report(&update).await {
                Ok(ack) => {
                    let acked = engine.atomically(|engine| engine.ack_hub_update(&update, &ack));
                    acked.map_err(failed)?;
                }
                Err(failure) => {
                    let nacked = engine.atomically(|engine| engine.nack_hub_update(now()));
                    nacked.map_err(failed)?;
                    return Err(problem("leaving it to the alarm")(failure.to_string()));
                }
            }
            if update.tail.is_some() || update.events.is_empty() {
                return Ok(());
            }
        }
        Ok(())
    }
}
