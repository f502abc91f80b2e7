//! Tells the recon master whose boot script is followed what is started, before nobody is left here to tell it.

use std::time::Duration;

use tokio::time::{sleep, timeout};

use super::session::Session;
use crate::model::console::console;
use crate::model::start_report::{PATH, StartReport, StartedFile};

/// A master on the link answers at once; one that does not answer in this time keeps nobody from starting.
pub(super) const ANSWER: Duration = Duration::from_secs(3);
const TRIES: usize = 2;
const PAUSE: Duration = Duration::from_secs(1);

/// Returns when the master has acknowledged the report, or did not within [`TRIES`] of `answer` each, which is said. Does nothing where
/// the script is no recon master's.
pub(super) async fn tell(session: &Session, files: Vec<StartedFile>, answer: Duration) {
    let Some(script) = session.master() else { return };
    let report = StartReport::new(session.port(), files);
    match sent(session, &report, answer).await {
        Ok(()) => console!("the recon master of {script} knows what is started"),
        Err(why) => {
            console!("the recon master of {script} was not told what is started: {why}; it is started all the same")
        }
    }
}

async fn sent(session: &Session, report: &StartReport, answer: Duration) -> Result<(), String> {
    let Some(script) = session.master() else { return Ok(()) };
    let target = script.redirect(PATH)?;
    let body = serde_json::to_vec(report).map_err(|error| error.to_string())?;
    let mut why = String::new();
    for tries in 0..TRIES {
        if tries > 0 {
            sleep(PAUSE).await;
        }
        why = match timeout(answer, session.client().tell(&target, body.clone())).await {
            Ok(Ok(200..=299)) => return Ok(()),
            // It would say the same again: it may be older than this.
            Ok(Ok(status @ 400..=499)) => return Err(format!("it answers with HTTP status {status}")),
            Ok(Ok(status)) => format!("it answers with HTTP status {status}"),
            Ok(Err(error)) => error.to_string(),
            Err(_) => format!("it did not answer for {} s", answer.as_secs_f32()),
        };
    }
    Err(format!("{why} ({TRIES} tries)"))
}
