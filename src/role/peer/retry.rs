//! What to send instead of what is not taken, and when. Pure.

use std::time::Duration;

use crate::model::backoff::{Failure, wait};

/// How much of an inventory goes into an upload, from everything to the least.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Form {
    #[default]
    Whole,
    /// Without what the site's workload left.
    WithoutResults,
    /// Without the raw captures as well.
    WithoutRaw,
    /// The shortest document alone.
    Lean,
}

impl Form {
    /// What it lacks beside the form before it.
    pub(crate) fn lacks(self) -> &'static str {
        match self {
            Form::Whole => "nothing",
            Form::WithoutResults => "the results of post.sh",
            Form::WithoutRaw => "the raw captures",
            Form::Lean => "what can be left out of the document",
        }
    }
}

/// What there is to leave out.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Has {
    pub results: bool,
    pub raw: bool,
}

/// What to do next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Next {
    /// The same again, after a while.
    Again(Duration),
    /// The form that this now says, at once.
    Leaner,
    /// Every form was refused.
    GiveUp,
}

/// One inventory on its way to the master.
#[derive(Debug, Default)]
pub(crate) struct Sending {
    form: Form,
    has: Has,
    tries: u32,
    /// This form was refused. Once may be a bit that fell over on the way; twice is the form.
    refused: bool,
}

impl Sending {
    pub(crate) fn new(has: Has) -> Self {
        let new = Sending::default();
        Sending { has, ..new }
    }

    pub(crate) fn form(&self) -> Form {
        self.form
    }

    /// Takes note of a failure. `noise` as in [`wait`].
    pub(crate) fn failed(&mut self, failure: Failure, noise: f64) -> Next {
        if failure != Failure::Permanent {
            let wait = failure.wait(self.tries, noise);
            self.tries = self.tries.saturating_add(1);
            return Next::Again(wait);
        }
        if !std::mem::replace(&mut self.refused, true) {
            return Next::Again(wait(0, noise));
        }
        self.form = match self.form {
            Form::Whole if self.has.results => Form::WithoutResults,
            Form::Whole | Form::WithoutResults if self.has.raw => Form::WithoutRaw,
            Form::Whole | Form::WithoutResults | Form::WithoutRaw => Form::Lean,
            Form::Lean => return Next::GiveUp,
        };
        self.refused = false;
        Next::Leaner
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every form that is tried when each is refused, and that this ends.
    fn forms(has: Has) -> Vec<Form> {
        let mut sending = Sending::new(has);
        let mut forms = vec![sending.form()];
        for _ in 0..20 {
            match sending.failed(Failure::Permanent, 0.0) {
                Next::Again(wait) => assert_eq!(wait, Duration::from_secs(1)),
                Next::Leaner => forms.push(sending.form()),
                Next::GiveUp => return forms,
            }
        }
        panic!("refused for ever: {forms:?}");
    }

    #[test]
    fn what_is_refused_is_sent_with_less_and_never_for_ever() {
        use Form::*;
        for (results, raw, want) in [
            (true, true, vec![Whole, WithoutResults, WithoutRaw, Lean]),
            (false, true, vec![Whole, WithoutRaw, Lean]),
            (true, false, vec![Whole, WithoutResults, Lean]),
            (false, false, vec![Whole, Lean]),
        ] {
            assert_eq!(forms(Has { results, raw }), want);
        }
    }

    #[test]
    fn what_may_be_taken_later_is_sent_as_it_is_for_ever() {
        let mut sending = Sending::new(Has {
            results: true,
            raw: true,
        });
        for tries in 0..1000 {
            assert_eq!(sending.failed(Failure::NO_ANSWER, 0.0), Next::Again(wait(tries, 0.0)));
            assert_eq!(sending.form(), Form::Whole);
        }
        // A refusal between them counts once.
        assert!(matches!(sending.failed(Failure::Permanent, 0.0), Next::Again(_)));
        assert!(matches!(sending.failed(Failure::NO_ANSWER, 0.0), Next::Again(_)));
        assert_eq!(sending.failed(Failure::Permanent, 0.0), Next::Leaner);
    }
}
