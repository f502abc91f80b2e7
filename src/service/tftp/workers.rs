//! Threads on which transfers run.
//!
//! A transfer is a packet there and a packet back, a thousand times. On a runtime of several threads every packet wakes a second
//! thread to look for work, which costs more than the work; so each of these threads keeps to the transfers it was given.

use std::io;

use tokio::runtime::{Builder, Handle};
use tokio::sync::mpsc;
use tokio_util::sync::{CancellationToken, DropGuard};

/// A link is full long before more of them are busy.
const MAX_THREADS: usize = 4;

pub struct Workers {
    handles: Vec<Handle>,
    next: usize,
    stop: DropGuard,
    /// Closed once every thread is gone.
    gone: mpsc::Receiver<()>,
}

impl Workers {
    /// As many as there are processors. They end when this is dropped.
    pub fn start() -> io::Result<Self> {
        let threads = std::thread::available_parallelism()
            .map_or(1, usize::from)
            .min(MAX_THREADS);
        let (stop, (alive, gone)) = (CancellationToken::new(), mpsc::channel(1));
        let mut handles = Vec::new();
        for number in 0..threads {
            let runtime = Builder::new_current_thread().enable_all().build()?;
            handles.push(runtime.handle().clone());
            let (stop, alive) = (stop.clone(), alive.clone());
            let run = move || {
                runtime.block_on(stop.cancelled());
                // Closes the sockets of the transfers that are left.
                drop(runtime);
                drop(alive);
            };
            std::thread::Builder::new().name(format!("tftp-{number}")).spawn(run)?;
        }
        Ok(Workers {
            handles,
            next: 0,
            stop: stop.drop_guard(),
            gone,
        })
    }

    /// Where the next transfer runs: each in turn.
    pub fn next(&mut self) -> &Handle {
        self.next = (self.next + 1) % self.handles.len();
        &self.handles[self.next]
    }

    /// Ends the threads and returns when they are gone, and their sockets with them.
    pub async fn end(self) {
        let Workers { stop, mut gone, .. } = self;
        drop(stop);
        gone.recv().await;
    }
}
