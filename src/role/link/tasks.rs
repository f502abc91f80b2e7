//! Tasks that end together.

use std::fmt::Display;

use anyhow::{Context, bail};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::Instrument;

#[derive(Default)]
pub(crate) struct Tasks {
    pub stop: CancellationToken,
    pub set: JoinSet<anyhow::Result<()>>,
}

impl Tasks {
    pub(crate) async fn end(mut self) {
        self.stop.cancel();
        while self.set.join_next().await.is_some() {}
    }

    /// A task that ended by itself is an error of the whole.
    pub(crate) fn check(&mut self, link: &str) -> anyhow::Result<()> {
        match self.set.try_join_next() {
            None => Ok(()),
            Some(Ok(Ok(()))) => bail!("a service on {link} ended by itself"),
            Some(Ok(Err(error))) => Err(error.context(format!("serving {link}"))),
            Some(Err(error)) => Err(anyhow::Error::new(error).context(format!("serving {link}"))),
        }
    }

    /// Starts a service, whose error says which one it was.
    pub(crate) fn spawn(
        &mut self,
        name: impl Display,
        service: impl Future<Output = std::io::Result<()>> + Send + 'static,
    ) {
        self.set.spawn(named(name.to_string(), service).in_current_span());
    }
}

/// A service whose error says which one it was.
pub(crate) async fn named(name: String, service: impl Future<Output = std::io::Result<()>>) -> anyhow::Result<()> {
    service.await.with_context(|| format!("the {name} service"))
}
