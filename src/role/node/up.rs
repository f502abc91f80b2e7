//! Tells the master that a node's own system is up, and that it still is.

use std::time::Duration;

use anyhow::Context;
use tokio_util::sync::CancellationToken;

use super::system;
use crate::model::ImageWord;
use crate::model::api::HEARTBEAT_SECONDS;
use crate::model::console::console;
use crate::model::identity::Evidence;
use crate::role::peer::session::Session;
use crate::sys::power;

/// Between two words to the master.
const HEARTBEAT: Duration = Duration::from_secs(HEARTBEAT_SECONDS);
/// The same until the first one was heard.
const AGAIN: Duration = Duration::from_secs(10);

/// Runs until `stop`.
pub(crate) async fn run(stop: CancellationToken) -> anyhow::Result<()> {
    let node = system::described().context("this is no node that recon started")?;
    let session = Session {
        master: node.master,
        token: None,
        id: node.id,
        uuid: None,
        evidence: Evidence {
            system_serial: node.serial,
            ports: node.macs.iter().copied().collect(),
            ..Evidence::default()
        },
        macs: node.macs,
    };
    let image = ImageWord {
        name: node.image,
        version: Some(node.version),
    };
    loop {
        let heard = session.is_up(&image).await;
        if heard.as_ref().is_some_and(|next| next.is_other) {
            console!("the master has something else for this node: starting again");
            power::reboot().await.context("starting this machine again")?;
        }
        let pause = if heard.is_some() { HEARTBEAT } else { AGAIN };
        tokio::select! {
            () = stop.cancelled() => return Ok(()),
            () = tokio::time::sleep(pause) => {}
        }
    }
}
