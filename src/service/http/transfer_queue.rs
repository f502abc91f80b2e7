//! The queue of big transfers: [`super::admission`] decides, this wakes who may start.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::oneshot;

use crate::sys::clock;

use super::admission::{Admission, Arrival, LIMITS, LOOK_SECONDS, Limits};

#[derive(Debug)]
pub struct Gate {
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    admission: Admission,
    asleep: HashMap<u64, oneshot::Sender<()>>,
}

impl State {
    fn wake(&mut self, admitted: Vec<u64>) {
        for id in admitted {
            if let Some(sleeper) = self.asleep.remove(&id) {
                // One whose client went just now leaves by itself.
                sleeper.send(()).ok();
            }
        }
    }
}

impl Default for Gate {
    fn default() -> Self {
        Gate::new(LIMITS)
    }
}

impl Gate {
    pub fn new(limits: Limits) -> Self {
        Gate {
            state: Mutex::new(State {
                admission: Admission::new(limits),
                asleep: HashMap::new(),
            }),
        }
    }

    /// A place for a big transfer of `who`, in the queue or past it; given back when it is dropped.
    ///
    /// # Errors
    /// Seconds after which the client should ask again.
    pub fn enter(self: &Arc<Self>, who: IpAddr) -> Result<Place, u64> {
        let mut state = self.state.lock().expect("no holder panics");
        let (id, waiting) = match state.admission.arrive(who, clock::run_time()) {
            Arrival::Go(id) => (id, None),
            Arrival::Wait(id) => {
                let (sender, receiver) = oneshot::channel();
                state.asleep.insert(id, sender);
                (id, Some(receiver))
            }
            Arrival::Refused { retry_after_seconds } => return Err(retry_after_seconds),
        };
        Ok(Place {
            gate: Arc::clone(self),
            id,
            waiting,
        })
    }

    /// Running and waiting transfers.
    pub fn counts(&self) -> (usize, usize) {
        self.state.lock().expect("no holder panics").admission.counts()
    }

    fn look(&self) {
        let mut state = self.state.lock().expect("no holder panics");
        let admitted = state.admission.look(clock::run_time());
        state.wake(admitted);
    }
}

#[derive(Debug)]
pub struct Place {
    gate: Arc<Gate>,
    id: u64,
    waiting: Option<oneshot::Receiver<()>>,
}

impl Place {
    /// Waits for this transfer's turn, a few seconds at most; true once it may run.
    pub async fn is_admitted(&mut self) -> bool {
        let Some(turn) = &mut self.waiting else {
            return true;
        };
        let came = tokio::time::timeout(Duration::from_secs_f64(LOOK_SECONDS), turn).await;
        if came.is_err() {
            // Who waits looks after those that hold it up.
            self.gate.look();
            return false;
        }
        self.waiting = None;
        true
    }

    pub fn sent(&self, bytes: u64) {
        let mut state = self.gate.state.lock().expect("no holder panics");
        state.admission.sent(self.id, bytes);
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut state = self.gate.state.lock().expect("no holder panics");
        state.asleep.remove(&self.id);
        let admitted = state.admission.leave(self.id, clock::run_time());
        state.wake(admitted);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn who_waits_starts_when_another_ends() {
        let limits = Limits {
            running: 1,
            waiting: 1,
            aside: 0,
        };
        let gate = Arc::new(Gate::new(limits));
        let who = |last| IpAddr::from([192, 0, 2, last]);
        let mut first = gate.enter(who(1)).unwrap();
        assert!(first.is_admitted().await);
        let mut second = gate.enter(who(2)).unwrap();
        gate.enter(who(3)).expect_err("the queue is full");
        assert_eq!(gate.counts(), (1, 1));
        assert!(!second.is_admitted().await, "the first still runs");
        let turn = tokio::spawn(async move {
            while !second.is_admitted().await {}
            second
        });
        drop(first);
        let second = turn.await.unwrap();
        assert_eq!(gate.counts(), (1, 0));
        drop(second);
        assert_eq!(gate.counts(), (0, 0));
    }
}
