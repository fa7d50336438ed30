//! Reports to the hub: what a stream has to send there, one batch at a time.

use pmx_core::problem::Problem;
use worker::console_error;

use super::bell::within;
use super::busy::LOST;
use super::stream::Stream;
use crate::http::now;
use crate::thrown::problem;

impl Stream {
    /// Tells the hub what it has not heard, if anything. Returns when it has, or when it can't.
    pub(super) async fn tell(&self) {
        let busy = &self.line.busy;
        let _telling = loop {
            let heard = busy.over().rung();
            match busy.begin(now()) {
                Some(telling) => break telling,
                None => drop(within(LOST, busy.over().beyond(heard)).await),
            }
        };
        if let Err(problem) = self.tell_all().await {
            console_error!("{problem}");
        }
    }

    async fn tell_all(&self) -> Result<(), Problem> {
        let engine = self.engine();
        let failed = |error: pmx_core::sql::SqlError| {
            problem("looking at what the hub has to hear")(error.to_string())
        };
        while let Some(tidings) = engine.tidings().map_err(failed)? {
            match self.line.tell(&tidings).await {
                Ok(heeding) => {
                    let heard = engine.atomically(|engine| engine.heard(&tidings, &heeding));
                    heard.map_err(failed)?;
                }
                Err(failure) => {
                    let put_off = engine.atomically(|engine| engine.unheard(now()));
                    put_off.map_err(failed)?;
                    return Err(problem("leaving it to the alarm")(failure.to_string()));
                }
            }
            if tidings.place.is_some() || tidings.news.is_empty() {
                return Ok(());
            }
        }
        Ok(())
    }
}
