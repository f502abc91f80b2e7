//! The settings of a running master: those that hold now, and what a person has to look at before more is dared. Pure but for
//! its lock; who reads files hands in what they hold.

use std::sync::{Arc, Mutex, RwLock};

use super::load::Loaded;
use super::settings::Settings;
use super::start_choices::StartChoices;

/// Problems that a person went on with, kept beyond one run as master: a machine that yields and comes back asks no second
/// time about the same ones.
pub type Accepted = Arc<Mutex<Vec<String>>>;

/// What a person does about settings that are held, where a terminal shows the screen.
pub const REMEDY: &str = "nothing is sent on any link and no machine is powered off until a person decides. On this machine's screen, \
                          type read and Enter once the file is mended, or go and Enter to go on with what was understood";

#[derive(Debug)]
pub struct Live {
    /// What is wrong elsewhere than in the file, a line each.
    beside: Vec<String>,
    accepted: Accepted,
    state: RwLock<LiveState>,
}

#[derive(Debug)]
struct LiveState {
    loaded: Loaded,
    now: Arc<Settings>,
    chosen: StartChoices,
    /// Counts changes of `now`.
    version: u64,
}

impl Live {
    /// `beside`: problems that no file of settings can mend, such as words of the kernel command line.
    pub fn new(loaded: Loaded, beside: Vec<String>, accepted: Accepted) -> Self {
        let live = Live {
            beside,
            accepted,
            state: RwLock::new(LiveState {
                now: Arc::new(loaded.settings.held()),
                loaded,
                chosen: StartChoices::default(),
                version: 0,
            }),
        };
        live.settle();
        live
    }

    /// Settings without a problem.
    pub fn fine(settings: Settings) -> Self {
        let loaded = Loaded {
            settings,
            problems: Vec::new(),
        };
        Live::new(loaded, Vec::new(), Accepted::default())
    }

    /// The settings that hold.
    pub fn now(&self) -> Arc<Settings> {
        Arc::clone(&self.state.read().expect("no holder panics").now)
    }

    /// Counts changes of the settings that hold.
    pub fn version(&self) -> u64 {
        self.state.read().expect("no holder panics").version
    }

    /// A line each; also those that a person went on with.
    pub fn problems(&self) -> Vec<String> {
        let state = self.state.read().expect("no holder panics");
        state.loaded.problems.iter().chain(&self.beside).cloned().collect()
    }

    /// True while nothing is dared.
    pub fn is_held(&self) -> bool {
        self.now().is_held()
    }

    /// A person goes on with what was understood. False where nothing waits for that.
    pub fn go(&self) -> bool {
        let held = self.is_held();
        if held {
            *self.accepted.lock().expect("no holder panics") = self.problems();
            self.settle();
        }
        held
    }

    /// The file as it is now. It counts only while nothing is dared: what a master serves by does not change under its
    /// machines. False where it does not count.
    pub fn read_again(&self, loaded: Loaded) -> bool {
        let held = self.is_held();
        if held {
            self.state.write().expect("no holder panics").loaded = loaded;
            self.settle();
        }
        held
    }

    /// A person chose what machines start.
    pub(crate) fn choose(&self, chosen: StartChoices) {
        let mut state = self.state.write().expect("no holder panics");
        let now = Settings {
            chosen: chosen.clone(),
            ..(*state.now).clone()
        };
        state.now = Arc::new(now);
        state.chosen = chosen;
    }

    fn settle(&self) {
        let problems = self.problems();
        let known = *self.accepted.lock().expect("no holder panics") == problems;
        let mut state = self.state.write().expect("no holder panics");
        let settings = match problems.is_empty() || known {
            true => state.loaded.settings.clone(),
            false => state.loaded.settings.held(),
        };
        state.now = Arc::new(Settings {
            chosen: state.chosen.clone(),
            ..settings
        });
        state.version += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::LinkRule;
    use crate::config::load::settings_of;
    use crate::model::{MacAddr, PowerOff};

    const MAC: MacAddr = MacAddr([2, 0, 0, 0, 0, 1]);

    fn loaded(text: &str) -> Loaded {
        settings_of("recon.toml", Ok(Some(text.as_bytes().to_vec())))
    }

    fn holds(live: &Live, rule: LinkRule, poweroff: PowerOff) {
        let now = live.now();
        assert_eq!(
            (now.link_rule("eth1", MAC), now.policy(&[MAC], None).poweroff),
            (rule, poweroff)
        );
        assert_eq!(live.is_held(), rule == LinkRule::Held);
    }

    #[test]
    fn nothing_is_dared_until_a_person_says_so() {
        let live = Live::new(loaded("sitte = \"A\"\n"), Vec::new(), Accepted::default());
        holds(&live, LinkRule::Held, PowerOff::Never);
        assert!(live.go());
        holds(&live, LinkRule::Auto, PowerOff::Ipmi);
        assert_eq!(live.problems().len(), 1, "it is still shown");
        assert!(
            !live.go() && !live.read_again(loaded("")),
            "it serves by what was accepted"
        );
    }

    #[test]
    fn a_mended_file_holds_and_a_worse_one_does_not() {
        let live = Live::new(loaded("sitte = \"A\"\n"), Vec::new(), Accepted::default());
        let version = live.version();
        assert!(live.read_again(loaded("[network\n")));
        holds(&live, LinkRule::Held, PowerOff::Never);
        assert!(live.read_again(loaded("[network]\nmode = \"proxy\"\n")));
        holds(&live, LinkRule::Proxy, PowerOff::Ipmi);
        assert!(live.problems().is_empty() && live.version() > version);
    }

    #[test]
    fn a_problem_beside_the_file_holds_it_as_well() {
        let accepted = Accepted::default();
        let make = || Live::new(loaded(""), vec!["kernel command line: x".into()], Arc::clone(&accepted));
        let live = make();
        holds(&live, LinkRule::Held, PowerOff::Never);
        assert!(live.read_again(loaded("")));
        holds(&live, LinkRule::Held, PowerOff::Never);
        live.go();
        holds(&make(), LinkRule::Auto, PowerOff::Ipmi);
        let worse = Live::new(loaded("x = 1"), Vec::new(), accepted);
        holds(&worse, LinkRule::Held, PowerOff::Never);
    }
}
