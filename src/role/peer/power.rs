//! How a peer ends once its inventory is stored: by the policy of its kernel command line, else by its master's. Whatever goes wrong
//! leaves the machine on, and is said on the console and to the master.

use std::time::Duration;

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
    match policy(session, chosen).await {
        PowerOff::Never => {
            console!("{stored}; this machine stays up");
            session
                .report(Stage::Collected, Some(format!("{stored}, stays up")), None)
                .await;
        }
        PowerOff::Acpi => {
            console!("{stored}; powering off");
            session
                .report(Stage::Off, Some("powering off by ACPI".to_owned()), None)
                .await;
            said().await;
            if let Err(error) = power::off().await {
                stays(
                    session,
                    &format!("{stored}, power-off failed: {error}: power off by hand"),
                )
                .await;
            }
        }
        PowerOff::Ipmi => by_ipmi(session, stored).await,
    }
}

async fn by_ipmi(session: &Session, stored: &str) {
    let opened = tokio::task::spawn_blocking(ipmi::Bmc::open).await;
    let mut bmc = match opened {
        Ok(Ok(bmc)) => bmc,
        Ok(Err(ipmi::BmcError::NoDevice)) => {
            return stays(session, &format!("{stored}, no BMC: power off by hand")).await;
        }
        Ok(Err(error)) => return stays(session, &format!("{stored}, BMC: {error}: power off by hand")).await,
        Err(error) => return stays(session, &format!("{stored}, BMC: {error}: power off by hand")).await,
    };
    console!("{stored}; powering off by IPMI");
    session
        .report(Stage::Off, Some("powering off by IPMI".to_owned()), None)
        .await;
    said().await;
    let asked = tokio::task::spawn_blocking(move || bmc.power_off()).await;
    if let Ok(Err(error)) = asked {
        return stays(
            session,
            &format!("{stored}, BMC refused to power off: {error}: power off by hand"),
        )
        .await;
    }
    tokio::time::sleep(POWER_DOWN).await;
    stays(
        session,
        &format!("{stored}, the BMC took the power-off but the machine still runs: power off by hand"),
    )
    .await;
}

/// The last line is on the console before the machine is gone.
async fn said() {
    tokio::task::spawn_blocking(console::drain).await.ok();
}

async fn stays(session: &Session, sentence: &str) {
    console!("{sentence}");
    session.report(Stage::Collected, Some(sentence.to_owned()), None).await;
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
