//! How a peer ends once its inventory is stored: by the policy of its kernel command line, which every boot script of a master has, or of
//! its arguments, else by its master's word. Whatever goes wrong leaves the machine on, and is said on the console and to the master. How the policy gets
//! here: the head of `model/policy.rs`.

use std::time::Duration;

use anyhow::{anyhow, bail};

use crate::model::console::console;
use crate::model::{PowerOff, Stage};
use crate::sys::{console, ipmi, power};

use crate::role::peer::session::Session;
use crate::role::peer::upload::Kept;

/// A machine that still runs this long after its BMC took the power-off command was not switched off.
const POWER_DOWN: Duration = Duration::from_secs(30);

/// Ends the machine. `chosen`: the policy of the kernel command line.
pub(crate) async fn end(session: &Session, chosen: Option<PowerOff>, kept: Kept) {
    let stored = match kept {
        Kept::Durable => "stored",
        Kept::Memory => "stored in the master's memory only",
        Kept::Refused(problem) => {
            // Whatever the policy: a machine that is off tells nobody anything.
            let sentence = format!("NOT STORED: {problem}; this machine stays up, `recon inventory` shows what it is");
            console!("{sentence}");
            return session.report(Stage::Collected, None, Some(sentence)).await;
        }
    };
    let ended = match policy(session, chosen).await {
        PowerOff::Never => {
            console!("{stored}; this machine stays up");
            let message = format!("{stored}, stays up");
            return session.report(Stage::Collected, Some(message), None).await;
        }
        PowerOff::Acpi => {
            say(session, &format!("{stored}; powering off"), "ACPI").await;
            let off = power::off().await;
            off.map_err(|error| anyhow!("power-off failed: {error}"))
        }
        PowerOff::Ipmi => by_ipmi(session, stored).await,
    };
    if let Err(why) = ended {
        stays(session, &format!("{stored}, {why}: power off by hand")).await;
    }
}

/// The inventory is stored, so what keeps the machine on is no failure of it.
async fn stays(session: &Session, sentence: &str) {
    console!("{sentence}");
    session.report(Stage::Collected, Some(sentence.to_owned()), None).await;
}

/// # Errors
/// Why the machine is still on, for people.
async fn by_ipmi(session: &Session, stored: &str) -> anyhow::Result<()> {
    let opened = tokio::task::spawn_blocking(ipmi::Bmc::open).await;
    let mut bmc = match opened.map_err(|error| anyhow!("BMC: {error}"))? {
        Ok(bmc) => bmc,
        Err(ipmi::BmcError::NoDevice) => bail!("no BMC"),
        Err(error) => bail!("BMC: {error}"),
    };
    say(session, &format!("{stored}; powering off by IPMI"), "IPMI").await;
    let asked = tokio::task::spawn_blocking(move || bmc.power_off()).await;
    if let Ok(Err(error)) = asked {
        bail!("BMC refused to power off: {error}");
    }
    tokio::time::sleep(POWER_DOWN).await;
    bail!("the BMC took the power-off but the machine still runs")
}

/// Says that the power goes off. The line is on the console before the machine is gone.
async fn say(session: &Session, sentence: &str, by: &str) {
    console!("{sentence}");
    let message = format!("powering off by {by}");
    session.report(Stage::Off, Some(message), None).await;
    tokio::task::spawn_blocking(console::drain).await.ok();
}

/// Policy by the kernel command line, else as the master says, else stay up: the careful end.
async fn policy(session: &Session, chosen: Option<PowerOff>) -> PowerOff {
    if let Some(policy) = chosen {
        return policy;
    }
    let said = session.ask_policy().await;
    said.map(|policy| policy.poweroff).unwrap_or_else(|error| {
        console!("how this machine is to end is not known, so it stays on: {error:#}. Power it off by hand");
        PowerOff::Never
    })
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;
    use crate::model::api::StageReport;
    use crate::model::identity::Evidence;

    /// What the master is told by `ending`: its message and its failure.
    async fn told(ending: impl AsyncFnOnce(&Session)) -> (Option<String>, Option<String>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let session = Session {
            master: listener.local_addr().unwrap(),
            token: None,
            id: "93d4e5a1-7f46-11e5-bf8b-080027123456".parse().unwrap(),
            macs: Vec::new(),
            uuid: None,
            evidence: Evidence::default(),
        };
        let master = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = Vec::new();
            loop {
                assert_ne!(stream.read_buf(&mut request).await.unwrap(), 0, "no report came");
                let text = String::from_utf8_lossy(&request);
                let body = text.split_once("\r\n\r\n").map(|(_, body)| body);
                if let Some(report) = body.and_then(|body| serde_json::from_str::<StageReport>(body).ok()) {
                    let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
                    stream.write_all(answer).await.unwrap();
                    return report;
                }
            }
        };
        let ((), report) = tokio::join!(ending(&session), master);
        assert_eq!(report.stage, Stage::Collected);
        (report.message, report.failure)
    }

    #[tokio::test]
    async fn only_an_inventory_that_is_not_stored_is_a_failure() {
        let sentence = "stored, no BMC: power off by hand";
        let said = told(async |session: &Session| stays(session, sentence).await).await;
        assert_eq!(said, (Some(sentence.to_owned()), None));
        let refused = async |session: &Session| end(session, None, Kept::Refused("full".to_owned())).await;
        let (message, failure) = told(refused).await;
        assert_eq!(message, None);
        assert!(failure.unwrap().starts_with("NOT STORED: full"));
    }
}
