//! The failsafe system of a diskless node: the first stage, which takes an inventory, says on the screen why it is here, and stays on with a
//! shell for a person. It asks its master every minute whether it still should be: a new version of its image, or `recon node retry`, lets
//! the machine start again.

use std::net::SocketAddr;
use std::time::Duration;

use crate::config::KernelLine;
use crate::model::console::console;
use crate::model::{MacAddr, PostAction};
use crate::role::first_stage::{self, Programs};
use crate::role::node;
use crate::role::peer::session::Session;
use crate::sys::{console, power, shell};

/// Between two questions.
const ASKING: Duration = Duration::from_secs(60);
/// Behind a shell that ended, so that one that cannot be started is not tried all the time.
const SHELL_PAUSE: Duration = Duration::from_secs(2);

/// Says why this machine is here.
pub(crate) fn say(line: &KernelLine) {
    let why = line.why.as_deref().filter(|why| !why.is_empty());
    console!(
        "failsafe: {}. It is inventoried, and stays on",
        why.unwrap_or("the settings want this machine here")
    );
}

/// Runs beside the peer, once that reached its master: a shell for a person, and the question whether this still should be. Ends with the
/// machine.
pub(crate) async fn stay(line: &KernelLine, master: SocketAddr, mac: MacAddr) -> anyhow::Result<()> {
    let session = node::session(line, master, mac)?;
    let shells = async {
        while !first_stage::fetch(Programs::Shell).await {
            tokio::time::sleep(ASKING).await;
        }
        keep_shells();
        Ok(())
    };
    tokio::try_join!(shells, ask_on(&session)).map(drop)
}

/// Asks whether this machine still should be here, and lets it start again where not.
async fn ask_on(session: &Session) -> anyhow::Result<()> {
    loop {
        tokio::time::sleep(ASKING).await;
        // A master that is away changes nothing.
        let Ok(policy) = session.ask_policy().await else {
            continue;
        };
        if policy.post_action != PostAction::Failsafe {
            console!("the master has something else for this machine: starting again");
            power::restart()?;
        }
    }
}

/// A shell on each console, and another one when it ends.
fn keep_shells() {
    for terminal in console::terminals() {
        let keep = move || {
            let mut failed = false;
            loop {
                let ended = shell::on(&terminal);
                // One that is not there, as a serial port that only the kernel line names.
                if let Err(error) = ended
                    && !std::mem::replace(&mut failed, true)
                {
                    tracing::warn!(terminal = %terminal.display(), %error, "no shell there");
                }
                std::thread::sleep(SHELL_PAUSE);
            }
        };
        if let Err(error) = std::thread::Builder::new().name("shell".to_owned()).spawn(keep) {
            console!("no shell: {error}");
        }
    }
}
