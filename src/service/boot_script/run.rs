//! Line after line of a script, and of the scripts that it chains. Pure: what has to be fetched, waited for or shown is a [`Request`],
//! and [`Interpreter::next`] goes on with its [`Answer`].

use std::collections::{BTreeMap, VecDeque};
use std::net::IpAddr;
use std::sync::Arc;

use fluent_uri::Uri;

use super::command::{self, Outcome, Then};
use super::error::ScriptError;
use super::images::Image;
use super::lex::{MAX_LINE_BYTES, Script, is_script};
use super::request::{Answer, Request};
use super::settings::Settings;
use super::state::State;
use super::url::{resolved, without_user};

/// Most commands in all; a script that waits for something in a loop comes this far in hours, one that only runs in circles at once.
const MAX_COMMANDS: usize = 10_000;
/// Most scripts that wait for one another.
const MAX_CHAINED: usize = 64;

/// Of all scripts that are kept, those that run and those that are images.
const MAX_KEPT_BYTES: usize = 8 << 20;

/// A script that runs, and where it is.
#[derive(Debug)]
struct Frame {
    script: Arc<Script>,
    url: Option<Uri<String>>,
    /// The line that comes next.
    line: usize,
    /// Words of this line that are still to be looked at.
    words: VecDeque<String>,
    /// Number of this line in its file.
    number: usize,
    /// How the last command ended; what made it fail.
    last: Result<(), String>,
    /// Its image, and whether that is freed when the script ends.
    image: Option<usize>,
    free: bool,
}

impl Frame {
    /// The line that runs, and of which script if it is not the one that was begun with.
    fn place(&self) -> String {
        match (&self.image, &self.url) {
            (Some(_), Some(url)) => format!("line {} of {}", self.number, without_user(url)),
            _ => format!("line {}", self.number),
        }
    }
}

enum Waiting {
    Nothing,
    Image(Image, Then),
    /// For an address, which goes into this setting.
    Address(String),
    Boot,
}

/// A script on its way, with everything that it set and fetched.
pub struct Interpreter {
    state: State,
    frames: Vec<Frame>,
    waiting: Waiting,
    commands: usize,
    ended: Option<Request>,
}

impl Interpreter {
    /// `url` is where the script came from: names without a scheme are looked for beside it.
    pub fn new(script: Script, url: Option<&str>, settings: Settings) -> Self {
        let mut interpreter = Self {
            state: State::new(settings),
            frames: Vec::new(),
            waiting: Waiting::Nothing,
            commands: 0,
            ended: None,
        };
        let url = url.and_then(|url| Uri::parse(url.to_owned()).ok());
        interpreter.push(Arc::new(script), url, None, false);
        interpreter
    }

    fn push(&mut self, script: Arc<Script>, url: Option<Uri<String>>, image: Option<usize>, free: bool) {
        if let Some(url) = &url {
            // It goes where the script has it go; a user goes along only to the same place, which needs no words.
            self.state.settings.put("", "cwuri", &without_user(url));
        }
        self.frames.push(Frame {
            script,
            url,
            line: 0,
            words: VecDeque::new(),
            number: 0,
            last: Ok(()),
            image,
            free,
        });
        if let Some(number) = image {
            self.state.images.set_running(number, true);
        }
    }

    /// Goes on until something is wanted. After an end it says that again.
    pub fn next(&mut self, answer: Answer) -> Request {
        let depth = self.frames.len();
        let waiting = std::mem::replace(&mut self.waiting, Waiting::Nothing);
        let resumed = !matches!(waiting, Waiting::Nothing);
        let wanted = match (waiting, answer) {
            (Waiting::Nothing, _) => Ok(None),
            (Waiting::Image(mut image, then), Answer::Fetched { url, bytes }) => {
                image.found = url;
                self.arrived(image, then, &bytes)
            }
            (Waiting::Image(mut image, then), Answer::NoKernel { url, why }) => match then {
                Then::Keep => {
                    image.found = url;
                    self.arrived(image, then, &[])
                }
                // It is not kept either: nothing else that is started should have it as an initrd.
                Then::Select | Then::Execute { .. } => self.refused(&image.url, &why),
            },
            (Waiting::Image(image, _), Answer::Failed(why)) => self.refused(&image.url, &why),
            (Waiting::Image(image, _), _) => self.refused(&image.url, "it did not come"),
            (Waiting::Address(setting), Answer::Address(address)) => self.looked_up(&setting, address),
            (Waiting::Address(_), Answer::Failed(why)) => self.refused("nslookup", &why),
            (Waiting::Address(_), _) => self.refused("nslookup", "there is no address"),
            (Waiting::Boot, Answer::Failed(why)) => self.refused("boot", &why),
            (Waiting::Boot, _) => self.refused("boot", "it did not start"),
        };
        match if resumed { self.settled(depth, wanted) } else { wanted } {
            Ok(Some(request)) => return request,
            Ok(None) => {}
            Err(error) => self.fail(&error),
        }
        loop {
            if !self.state.said.is_empty() {
                return Request::Say(self.state.said.remove(0));
            }
            if let Some(end) = &self.ended {
                return end.clone();
            }
            match self.step() {
                Ok(None) => {}
                Ok(Some(request)) => return request,
                Err(error) => self.fail(&error),
            }
        }
    }

    fn fail(&mut self, error: &ScriptError) {
        self.ended = Some(Request::Failed(self.at(&error.to_string())));
    }

    fn refused(&mut self, what: &str, why: &str) -> Result<Option<Request>, ScriptError> {
        self.note(Err(format!("{what}: {why}")));
        Ok(None)
    }

    /// A setting that is made without a type takes that of the address, as in iPXE.
    fn looked_up(&mut self, setting: &str, address: IpAddr) -> Result<Option<Request>, ScriptError> {
        let kind = if address.is_ipv4() { "ipv4" } else { "ipv6" };
        let typed = match setting.contains(':') {
            true => setting.to_owned(),
            false => format!("{setting}:{kind}"),
        };
        let set = self.state.settings.set(&typed, &address.to_string());
        self.note(set.map_err(|error| format!("nslookup: {error}")));
        Ok(None)
    }

    /// A command has ended, unless it waits or another script runs now: what its end rules out is passed over.
    fn settled(
        &mut self,
        depth: usize,
        wanted: Result<Option<Request>, ScriptError>,
    ) -> Result<Option<Request>, ScriptError> {
        if self.frames.len() == depth && matches!(self.waiting, Waiting::Nothing) {
            self.between();
        }
        wanted
    }

    /// A sentence with the line that it is about.
    fn at(&self, what: &str) -> String {
        self.frames
            .last()
            .map_or_else(|| what.to_owned(), |frame| format!("{}: {what}", frame.place()))
    }

    fn note(&mut self, result: Result<(), String>) {
        if let Err(why) = &result {
            self.state.said.push(self.at(why));
        }
        if let Some(frame) = self.frames.last_mut() {
            frame.last = result;
        }
    }

    /// One command, or one line further.
    fn step(&mut self) -> Result<Option<Request>, ScriptError> {
        let Some(frame) = self.frames.last_mut() else {
            self.ended.get_or_insert(Request::Exit(0));
            return Ok(None);
        };
        if frame.words.is_empty() {
            // A line whose last command failed ends the script.
            if frame.last.is_err() {
                self.leave();
            } else {
                match frame.script.line(frame.line) {
                    Some(line) => {
                        frame.words = line.words().map(str::to_owned).collect();
                        (frame.number, frame.line) = (line.number, frame.line + 1);
                    }
                    None => self.leave(),
                }
            }
            return Ok(None);
        }
        let end = frame
            .words
            .iter()
            .position(|word| matches!(word.as_str(), "||" | "&&" | ";"))
            .unwrap_or(frame.words.len());
        let command: Vec<String> = frame.words.drain(..end).collect();
        // The word between two commands says whether the next one runs; the line goes on behind it either way.
        let mut expanded = Vec::with_capacity(command.len());
        let mut bytes = 0;
        for word in &command {
            let word = self.state.settings.expand(word)?;
            bytes += word.len() + 1;
            if bytes > MAX_LINE_BYTES + 1 {
                return Err(ScriptError::TooMuch("letters in a line"));
            }
            expanded.push(word);
        }
        self.commands += 1;
        if self.commands > MAX_COMMANDS {
            return Err(ScriptError::TooMuch("commands"));
        }
        self.run(&expanded)
    }

    fn run(&mut self, words: &[String]) -> Result<Option<Request>, ScriptError> {
        let depth = self.frames.len();
        let Some((name, words)) = words.split_first() else {
            self.note(Ok(()));
            return self.settled(depth, Ok(None));
        };
        let wanted = match command::execute(&mut self.state, name, words) {
            Ok(outcome) => self.obey(outcome),
            Err(why) => self.refused(name, &why),
        };
        self.settled(depth, wanted)
    }

    fn obey(&mut self, outcome: Outcome) -> Result<Option<Request>, ScriptError> {
        match outcome {
            Outcome::True => self.note(Ok(())),
            // What was only a question is not told.
            Outcome::False => {
                if let Some(frame) = self.frames.last_mut() {
                    frame.last = Err(String::new());
                }
            }
            Outcome::Goto(label) => {
                let found = self.frames.last_mut().and_then(|frame| {
                    frame.line = frame.script.label(&label)?;
                    frame.words.clear();
                    Some(())
                });
                self.note(found.ok_or_else(|| format!("there is no label :{label}")));
            }
            Outcome::Ask(request) => {
                self.note(Ok(()));
                return Ok(Some(request));
            }
            Outcome::LookUp { setting, name } => {
                self.waiting = Waiting::Address(setting);
                return Ok(Some(Request::LookUp(name)));
            }
            Outcome::Fetch { name, url, args, then } => return self.fetch(name, &url, args, then),
            Outcome::Execute { image, replace, free } => return self.start(&image, replace, free),
            Outcome::Exit(code) => self.exit(code),
            Outcome::End(request) => self.ended = Some(request),
        }
        Ok(None)
    }

    /// Behind a command: passes over those that its end rules out.
    fn between(&mut self) {
        let Some(frame) = self.frames.last_mut() else { return };
        while let Some(word) = frame.words.pop_front() {
            let runs = match word.as_str() {
                "||" => frame.last.is_err(),
                "&&" => frame.last.is_ok(),
                _ => true,
            };
            if runs {
                // `command ||` at the end of a line: nothing follows, and nothing succeeds.
                if frame.words.is_empty() {
                    frame.last = Ok(());
                }
                return;
            }
            let skipped = frame
                .words
                .iter()
                .position(|word| matches!(word.as_str(), "||" | "&&" | ";"));
            frame.words.drain(..skipped.unwrap_or(frame.words.len()));
        }
    }

    fn fetch(
        &mut self,
        name: Option<String>,
        reference: &str,
        args: String,
        then: Then,
    ) -> Result<Option<Request>, ScriptError> {
        let (reference, post) = match reference.split_once("##params") {
            Some((url, _)) => (url, std::mem::take(&mut self.state.params)),
            None => (reference, Vec::new()),
        };
        let base = self.frames.last().and_then(|frame| frame.url.as_ref());
        let Some(url) = resolved(base, reference) else {
            // It may be anything, with a password anywhere in it.
            self.note(Err("what is to be fetched is no URL".to_owned()));
            return Ok(None);
        };
        let number = self.state.images.number()?;
        let path = url.split(['?', '#']).next().unwrap_or_default();
        let name = name.unwrap_or_else(|| path.rsplit('/').next().unwrap_or_default().to_owned());
        self.waiting = Waiting::Image(
            Image {
                number,
                name,
                url: url.clone(),
                found: None,
                args,
                script: None,
                is_running: false,
                has_run: false,
            },
            then,
        );
        Ok(Some(Request::Fetch {
            image: number,
            url,
            post,
        }))
    }

    fn arrived(&mut self, mut image: Image, then: Then, bytes: &[u8]) -> Result<Option<Request>, ScriptError> {
        if is_script(bytes) {
            match Script::read(bytes) {
                Ok(script) => image.script = Some(Arc::new(script)),
                Err(error) => return self.refused(&image.url, &error.to_string()),
            }
        }
        let name = image.name.clone();
        self.check_kept(image.script.as_ref())?;
        if self.state.images.keep(image, then == Then::Select) {
            let why = format!("{name} takes the place of the image of that name, which boot would have started");
            self.state.said.push(self.at(&why));
        }
        self.note(Ok(()));
        match then {
            Then::Execute { replace, free } => self.start(&name, replace, free),
            Then::Keep | Then::Select => Ok(None),
        }
    }

    /// # Errors
    /// With this one too, the scripts that run or are images take too much.
    fn check_kept(&self, new: Option<&Arc<Script>>) -> Result<(), ScriptError> {
        let running = self.frames.iter().map(|frame| &frame.script);
        let kept = running.chain(self.state.images.scripts()).chain(new);
        let each: BTreeMap<_, _> = kept.map(|script| (Arc::as_ptr(script), script.bytes())).collect();
        match each.values().sum::<usize>() > MAX_KEPT_BYTES {
            true => Err(ScriptError::TooMuch("scripts")),
            false => Ok(()),
        }
    }

    /// Whether an image of this number is still there.
    pub fn has(&self, image: usize) -> bool {
        self.state.images.has(image)
    }

    /// Runs an image: a script goes on here, a kernel is whoever runs us to start.
    fn start(&mut self, name: &str, replace: bool, free: bool) -> Result<Option<Request>, ScriptError> {
        let Some(image) = self.state.images.find(name) else {
            self.note(Err(format!("there is no image {name}")));
            return Ok(None);
        };
        let Some(script) = image.script.clone() else {
            let plan = self.state.images.plan(image);
            self.waiting = Waiting::Boot;
            return Ok(Some(Request::Boot(plan)));
        };
        if self.frames.len() >= MAX_CHAINED {
            return Err(ScriptError::TooMuch("scripts that chain one another"));
        }
        let found = image.found.as_ref().unwrap_or(&image.url);
        let (url, number) = (Uri::parse(found.clone()).ok(), image.number);
        if replace && let Some(frame) = self.frames.pop() {
            self.put_back(&frame);
        }
        self.push(script, url, Some(number), free);
        Ok(None)
    }

    /// A script that runs no longer is an image again, or gone.
    fn put_back(&mut self, frame: &Frame) {
        match frame.image {
            Some(number) if frame.free => self.state.images.free(Some(number)),
            Some(number) => self.state.images.set_running(number, false),
            None => {}
        }
    }

    /// The script that runs is at its end; the one that chained it goes on.
    fn leave(&mut self) {
        let Some(frame) = self.frames.pop() else { return };
        self.put_back(&frame);
        let last = match &frame.last {
            Err(why) if why.is_empty() => {
                let why = "what it asks is not so, and the script does not say what to do then";
                Err(format!("{}: {why}", frame.place()))
            }
            Err(why) => Err(format!("{}: {why}", frame.place())),
            Ok(()) => Ok(()),
        };
        match (self.frames.last_mut(), last) {
            (Some(above), last) => {
                above.last = last;
                self.between();
            }
            (None, Ok(())) => self.ended = Some(Request::Exit(0)),
            (None, Err(why)) => self.ended = Some(Request::Failed(why)),
        }
    }

    fn exit(&mut self, code: u32) {
        if let [only] = &mut self.frames[..] {
            only.words.clear();
            self.ended = Some(Request::Exit(code));
            return;
        }
        if let Some(frame) = self.frames.last_mut() {
            frame.last = if code == 0 {
                Ok(())
            } else {
                Err(format!("it ended with {code}"))
            };
        }
        self.leave();
    }
}

#[cfg(test)]
mod corpus;
#[cfg(test)]
mod own;
#[cfg(test)]
mod tests;
