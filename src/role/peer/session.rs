//! What a peer says to its master and asks it, beside the upload: stages, the policy, the clock.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Context;
use hyper::body::Bytes;
use hyper::{Method, StatusCode};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

use crate::model::api::{NextStart, Policy, StageReport};
use crate::model::identity::Evidence;
use crate::model::{ImageWord, MacAddr, NodeId, Stage};
use crate::service::http::client::{self, Answer, Bounds, ClientError};
use crate::sys::clock;

use crate::role::peer::collect::Snapshot;
use crate::role::peer::post::Results;
use crate::role::peer::upload::{self, Kept};

const QUICK: Bounds = Bounds {
    time: Duration::from_secs(10),
    answer_bytes: 1 << 20,
};

/// A peer and its master.
pub(crate) struct Session {
    pub master: SocketAddr,
    pub token: Option<String>,
    /// What it calls itself, until the master said under which name it keeps it.
    pub id: NodeId,
    pub macs: Vec<MacAddr>,
    pub uuid: Option<String>,
    pub evidence: Evidence,
}

impl Session {
    fn headers(&self) -> Vec<(&'static str, String)> {
        let bearer = |token| ("authorization", format!("Bearer {token}"));
        self.token.iter().map(bearer).collect()
    }

    /// One request to the master.
    pub(crate) async fn ask(
        &self,
        method: Method,
        target: &str,
        body: Bytes,
        bounds: Bounds,
    ) -> Result<Answer, ClientError> {
        client::ask(self.master, method, target, &self.headers(), body, bounds).await
    }

    /// See [`upload::upload`].
    pub(crate) async fn upload(&mut self, snapshot: &Snapshot, results: Option<&Results>) -> anyhow::Result<Kept> {
        upload::upload(self.master, self.headers(), &mut self.id, snapshot, results).await
    }

    /// Tells the master how far this machine is. One try: the next report or the upload tells it as well.
    pub(crate) async fn report(&self, stage: Stage, message: Option<String>, failure: Option<String>) {
        self.is_heard(stage, message, failure).await;
    }

    /// The same; true where the master heard it.
    pub(crate) async fn is_heard(&self, stage: Stage, message: Option<String>, failure: Option<String>) -> bool {
        self.tell(StageReport {
            stage,
            macs: self.macs.clone(),
            evidence: Some(self.evidence.clone()),
            message,
            failure,
            image: None,
        })
        .await
    }

    /// Tells the master that this node's own system is up, and which that is; nothing where it did not hear it.
    pub(crate) async fn is_up(&self, image: &ImageWord) -> Option<NextStart> {
        let answer = self.answer(StageReport {
            stage: Stage::Up,
            macs: self.macs.clone(),
            evidence: Some(self.evidence.clone()),
            message: Some(format!("runs {image}")),
            failure: None,
            image: Some(image.clone()),
        });
        answer.await.map(|body| next_start(&body))
    }

    /// Tells the master that this machine cannot start that, and why. True where its boot script has something else for it now.
    pub(crate) async fn gives_up(&self, image: ImageWord, why: String) -> bool {
        let answer = self.answer(StageReport {
            stage: Stage::Agent,
            macs: self.macs.clone(),
            evidence: Some(self.evidence.clone()),
            message: None,
            failure: Some(why),
            image: Some(image),
        });
        answer.await.is_some_and(|body| next_start(&body).is_other)
    }

    async fn tell(&self, report: StageReport) -> bool {
        self.answer(report).await.is_some()
    }

    /// What the master says to a report; nothing where it did not take it.
    async fn answer(&self, report: StageReport) -> Option<Bytes> {
        let stage = report.stage;
        let body = serde_json::to_vec(&report).ok()?;
        let target = format!("/api/v1/nodes/{}/stage", self.id);
        match self.ask(Method::POST, &target, body.into(), QUICK).await {
            Ok(Answer { status, body, .. }) if status.is_success() => return Some(body),
            Ok(Answer { status, .. }) => tracing::warn!(%status, %stage, "the master did not take a stage report"),
            Err(error) => tracing::warn!(%error, %stage, "reporting a stage"),
        }
        None
    }

    /// What a question says of who asks: its boot port, and what else a rule may know it by.
    pub(crate) fn marks(&self) -> String {
        let mac = self.macs.first().map(|mac| mac.to_string()).unwrap_or_default();
        let serial = self.evidence.system_serial.as_deref().unwrap_or_default();
        format!(
            "mac={mac}&uuid={}&serial={}",
            self.uuid.as_deref().unwrap_or_default(),
            utf8_percent_encode(serial, NON_ALPHANUMERIC)
        )
    }

    /// One try.
    pub(crate) async fn ask_policy(&self) -> anyhow::Result<Policy> {
        let target = format!("/api/v1/policy?{}", self.marks());
        let asked = self.ask(Method::GET, &target, Bytes::new(), QUICK).await;
        let answer = asked.context("asking the master")?;
        read_policy(answer.status, &answer.body)
    }

    /// This machine's clock minus the master's, in milliseconds; `None` where the master does not answer.
    pub(crate) async fn clock_offset(&self) -> Option<i64> {
        let sent = clock::unix_millis();
        let master = self.ask_policy().await.ok()?.now_ms?;
        Some(offset(sent, clock::unix_millis(), master))
    }
}

/// A master of an earlier version says something else.
fn next_start(body: &[u8]) -> NextStart {
    serde_json::from_slice(body).unwrap_or(NextStart { is_other: false })
}

/// Our clock minus the master's, which it told about halfway between our question and its answer.
fn offset(sent_ms: i64, received_ms: i64, master_ms: i64) -> i64 {
    (sent_ms / 2 + received_ms / 2).saturating_sub(master_ms)
}

/// A word that is not known makes the whole answer an error.
fn read_policy(status: StatusCode, body: &[u8]) -> anyhow::Result<Policy> {
    anyhow::ensure!(status.is_success(), "the master answered {status}");
    serde_json::from_slice(body).context("the master's answer is not understood")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::PowerOff;

    /// Whatever is no clear word powers nothing off, and says why.
    #[test]
    fn only_a_clear_word_powers_a_machine_off() {
        let said = |status: u16, body: &str| {
            let status = StatusCode::from_u16(status).unwrap();
            read_policy(status, body.as_bytes()).map(|policy| policy.poweroff)
        };
        let clear = r#"{"post_action": "inventory", "poweroff": "acpi"}"#;
        assert_eq!(said(200, clear).unwrap(), PowerOff::Acpi);
        for (status, body, why) in [
            (500, clear, "500"),
            (404, clear, "404"),
            (200, "", "not understood"),
            (200, "<html>", "not understood"),
            (200, r#"{"post_action": "inventory"}"#, "not understood"),
            (
                200,
                r#"{"post_action": "inventory", "poweroff": null}"#,
                "not understood",
            ),
            (
                200,
                r#"{"post_action": "inventory", "poweroff": "Acpi"}"#,
                "known: never",
            ),
            (200, r#"{"post_action": "inventory", "poweroff": ""}"#, "known: never"),
            (
                200,
                r#"{"post_action": "dance", "poweroff": "acpi"}"#,
                "known: inventory",
            ),
            (200, r#"{"poweroff": "acpi"}"#, "not understood"),
        ] {
            let error = format!("{:#}", said(status, body).unwrap_err());
            assert!(error.contains(why), "{body}: {error}");
        }
    }

    #[test]
    fn the_masters_clock_is_compared_halfway() {
        assert_eq!(offset(1_000, 1_200, 1_100), 0);
        assert_eq!(offset(5_000, 5_400, 200), 5_000);
    }
}
