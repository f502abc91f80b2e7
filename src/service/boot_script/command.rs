//! What each word of a script does. Pure; the names and options are iPXE's (its `hci/commands`).

use std::time::Duration;

use super::options::{Known, parse};
use super::ports;
use super::request::Request;
use super::state::State;
use crate::model::secrets;

/// Longest wait that one `sleep` may ask for; longer ones are cut, for nobody means them.
const MAX_SLEEP: Duration = Duration::from_secs(3600);
/// Most entries of a menu, and most parameters of a POST.
const MAX_ITEMS: usize = 500;

/// How a command ended, or what it wants.
pub(super) enum Outcome {
    True,
    /// It failed, and that is an answer, not a fault.
    False,
    Goto(String),
    /// It succeeds once whoever runs the script did this.
    Ask(Request),
    /// Succeeds with an address of this host in a setting.
    LookUp {
        setting: String,
        name: String,
    },
    Fetch {
        name: Option<String>,
        url: String,
        args: String,
        then: Then,
    },
    /// An image that is there already.
    Execute {
        image: String,
        replace: bool,
        free: bool,
    },
    Exit(u32),
    End(Request),
}

/// What follows once an image is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Then {
    Keep,
    Select,
    /// Run it; a script in the place of this one, if so told.
    Execute {
        replace: bool,
        free: bool,
    },
}

const IMAGE: &[Known] = &[
    ("name", 'n', true),
    ("timeout", 't', true),
    ("autofree", 'a', false),
    ("replace", 'r', false),
];
const NONE: &[Known] = &[];

/// Does what a word says.
///
/// # Errors
/// Why it could not be done, in words.
pub(super) fn execute(script: &mut State, name: &str, words: &[String]) -> Result<Outcome, String> {
    match name {
        "echo" => echo(script, words),
        "set" | "clear" | "inc" | "isset" | "iseq" | "show" | "read" => setting(script, name, words),
        "goto" => Ok(Outcome::Goto(single(words, "a label")?.to_owned())),
        "exit" => Ok(Outcome::Exit(words.first().map_or(Ok(0), |word| number(word))?)),
        "sleep" => {
            let wanted = Duration::from_secs(u64::from(number(single(words, "a number of seconds")?)?));
            Ok(Outcome::Ask(Request::Wait(wanted.min(MAX_SLEEP))))
        }
        "kernel" | "imgselect" | "imgload" => image(script, words, Then::Select),
        "initrd" | "imgfetch" | "module" => image(script, words, Then::Keep),
        "imgextract" => extract(script, words),
        "boot" | "imgexec" | "chain" => start(script, words),
        "imgargs" => arguments(script, words),
        "imgfree" => free(script, words),
        "menu" | "item" | "choose" | "prompt" => menu(script, name, words),
        "params" | "param" => parameters(script, name, words),
        "dhcp" | "ifconf" => ports::ready(words, &script.settings, true).map(|()| Outcome::True),
        "ifopen" | "ifclose" | "iflinkwait" => ports::ready(words, &script.settings, false).map(|()| Outcome::True),
        "vcreate" | "vdestroy" => ports::vlan(words, &script.settings).map(|()| Outcome::True),
        "nslookup" => match words {
            [setting, name] => Ok(Outcome::LookUp {
                setting: setting.clone(),
                name: name.clone(),
            }),
            _ => Err("it wants a setting and a name".to_owned()),
        },
        "cpuid" => cpuid(script, words),
        // They show or change what has no meaning here.
        "ifstat" | "route" | "neighbour" | "ipstat" | "imgstat" | "console" | "colour" | "cpair" | "shim" | "sync"
        | "ntp" => Ok(Outcome::True),
        "shell" => Ok(Outcome::End(Request::Shell)),
        "reboot" => Ok(Outcome::End(Request::Reboot)),
        "poweroff" => Ok(Outcome::End(Request::PowerOff)),
        "imgverify" | "imgtrust" => Err("signatures of images are not checked here".to_owned()),
        "sanboot" | "sanhook" | "sanunhook" | "autoboot" | "fcstat" | "fcels" | "ibstat" | "pxebs" | "startpxe"
        | "stoppxe" | "login" | "config" | "imgdecrypt" => Err("it cannot be done once a system runs".to_owned()),
        _ => Err("there is no such word".to_owned()),
    }
}

fn single<'a>(words: &'a [String], what: &str) -> Result<&'a str, String> {
    let [word] = words else {
        return Err(format!("it wants {what}"));
    };
    Ok(word)
}

fn number(word: &str) -> Result<u32, String> {
    let value = match word.strip_prefix("0x") {
        Some(hex) => u32::from_str_radix(hex, 16),
        None => word.parse(),
    };
    value.map_err(|_| format!("{word} is no number"))
}

/// Whether a bit of what the processor says of itself is set: CPUID leaf 1, or leaf 80000001h, in EDX or ECX.
fn cpuid(script: &State, words: &[String]) -> Result<Outcome, String> {
    let parsed = parse(words, &[("ext", 'e', false), ("ecx", 'c', false)])?;
    let bit = number(single(parsed.rest, "the number of a bit")?)?;
    let features = script.settings.processor().ok_or("this processor has no CPUID")?;
    let register = match (parsed.has("ext"), parsed.has("ecx")) {
        (false, false) => features.edx,
        (false, true) => features.ecx,
        (true, false) => features.extended_edx,
        (true, true) => features.extended_ecx,
    };
    match register.checked_shr(bit).ok_or("a register has 32 bits")? & 1 {
        0 => Ok(Outcome::False),
        _ => Ok(Outcome::True),
    }
}

fn echo(script: &mut State, words: &[String]) -> Result<Outcome, String> {
    let parsed = parse(words, &[("n", 'n', false)])?;
    script.say(parsed.rest.join(" "));
    Ok(Outcome::True)
}

fn setting(script: &mut State, name: &str, words: &[String]) -> Result<Outcome, String> {
    let truth = |is: bool| if is { Outcome::True } else { Outcome::False };
    let settings = &mut script.settings;
    let done = match (name, words) {
        ("isset", []) => return Ok(Outcome::False),
        ("isset", [value]) => return Ok(truth(!value.is_empty())),
        ("iseq", [one, other]) => return Ok(truth(one == other)),
        ("set", [setting, value @ ..]) => settings.set(setting, &value.join(" ")),
        ("clear", [setting]) => settings.clear(setting),
        ("inc", [setting]) => settings.add(setting, 1),
        ("inc", [setting, by]) => settings.add(setting, by.parse().map_err(|_| format!("{by} is no number"))?),
        ("show", [setting]) => {
            let value = settings.get(setting).map_err(|error| error.to_string())?;
            let value = value.ok_or_else(|| format!("{setting} is not set"))?;
            script.say(format!("{setting} = {}", secrets::value(setting, &value)));
            Ok(())
        }
        // Nobody types: what is there stays.
        ("read", [.., _]) => Ok(()),
        _ => return Err("it wants other words behind it".to_owned()),
    };
    done.map(|()| Outcome::True).map_err(|error| error.to_string())
}

/// `kernel`, `initrd` and their kin: an image that is there is taken, any other name is a URL.
fn image(script: &mut State, words: &[String], then: Then) -> Result<Outcome, String> {
    let parsed = parse(words, IMAGE)?;
    let (url, args) = parsed.rest.split_first().ok_or("it wants a URL")?;
    let name = parsed.value("name").map(str::to_owned);
    if let Some(image) = script.images.find_mut(url) {
        if !args.is_empty() {
            image.args = args.join(" ");
        }
        if let Some(name) = name {
            image.name = name;
        }
        let (number, name) = (image.number, image.name.clone());
        if then == Then::Select {
            script.images.select(number);
        } else if script.images.is_selected(number) {
            script.say(format!(
                "{name} is the image that boot starts: it does not go along as an initrd too"
            ));
        }
        return Ok(Outcome::True);
    }
    Ok(Outcome::Fetch {
        name,
        url: url.clone(),
        args: args.join(" "),
        then,
    })
}

/// `imgextract`: the kernel that is started unpacks its archives by itself, so they stay packed; only the name is that of an unpacked one.
fn extract(script: &mut State, words: &[String]) -> Result<Outcome, String> {
    let parsed = parse(words, &IMAGE[..2])?;
    let url = parsed.rest.first().ok_or("it wants a URL")?;
    let path = url.split(['?', '#']).next().unwrap_or_default();
    let packed = path.rsplit('/').next().unwrap_or_default();
    let unpacked = packed.rsplit_once('.').map_or(packed, |(name, _)| name);
    let name = parsed.value("name").unwrap_or(unpacked).to_owned();
    if let Some(image) = script.images.find_mut(url) {
        image.name = name;
        return Ok(Outcome::True);
    }
    Ok(Outcome::Fetch {
        name: Some(name),
        url: url.clone(),
        args: String::new(),
        then: Then::Keep,
    })
}

fn start(script: &mut State, words: &[String]) -> Result<Outcome, String> {
    let parsed = parse(words, IMAGE)?;
    let (replace, free) = (parsed.has("replace"), parsed.has("autofree"));
    let Some((url, args)) = parsed.rest.split_first() else {
        let image = script.images.selected().ok_or("no image is selected")?;
        return Ok(Outcome::Execute {
            image: image.name.clone(),
            replace,
            free,
        });
    };
    if let Some(image) = script.images.find_mut(url) {
        if !args.is_empty() {
            image.args = args.join(" ");
        }
        return Ok(Outcome::Execute {
            image: image.name.clone(),
            replace,
            free,
        });
    }
    let name = parsed.value("name").map(str::to_owned);
    Ok(Outcome::Fetch {
        name,
        url: url.clone(),
        args: args.join(" "),
        then: Then::Execute { replace, free },
    })
}

fn arguments(script: &mut State, words: &[String]) -> Result<Outcome, String> {
    let parsed = parse(words, IMAGE)?;
    let (name, args) = parsed.rest.split_first().ok_or("it wants an image")?;
    let image = script
        .images
        .find_mut(name)
        .ok_or_else(|| format!("there is no image {name}"))?;
    image.args = args.join(" ");
    Ok(Outcome::True)
}

fn free(script: &mut State, words: &[String]) -> Result<Outcome, String> {
    let parsed = parse(words, NONE)?;
    if parsed.rest.is_empty() {
        script.images.free(None);
    }
    for name in parsed.rest {
        let number = script
            .images
            .find(name)
            .ok_or_else(|| format!("there is no image {name}"))?
            .number;
        script.images.free(Some(number));
    }
    Ok(Outcome::True)
}

/// Menus, where nobody chooses: what the script prefers is chosen at once, and a key that it waits for is not pressed.
fn menu(script: &mut State, name: &str, words: &[String]) -> Result<Outcome, String> {
    const ITEM: &[Known] = &[
        ("menu", 'm', true),
        ("key", 'k', true),
        ("default", 'd', false),
        ("gap", 'g', false),
    ];
    const PROMPT: &[Known] = &[("key", 'k', true), ("timeout", 't', true), ("set", 's', true)];
    const MENU: &[Known] = &[("name", 'n', true), ("delete", 'd', false)];
    match name {
        "menu" => {
            let parsed = parse(words, MENU)?;
            script.menu = super::state::Menu::default();
            script.say(parsed.rest.join(" "));
        }
        "item" => {
            let parsed = parse(words, ITEM)?;
            if parsed.has("gap") {
                return Ok(Outcome::True);
            }
            if script.menu.items.len() >= MAX_ITEMS {
                return Err("the menu is full".to_owned());
            }
            if let Some((label, text)) = parsed.rest.split_first() {
                script.menu.items.push(label.clone());
                if parsed.has("default") {
                    script.menu.preferred = Some(label.clone());
                }
                script.say(format!("  {label}: {}", text.join(" ")));
            }
        }
        "choose" => choose(script, words)?,
        _ => {
            let parsed = parse(words, PROMPT)?;
            script.say(parsed.rest.join(" "));
            if parsed.has("key") || parsed.has("timeout") {
                return Ok(Outcome::False);
            }
        }
    }
    Ok(Outcome::True)
}

/// Takes what is preferred, else what comes first.
fn choose(script: &mut State, words: &[String]) -> Result<(), String> {
    const CHOOSE: &[Known] = &[
        ("menu", 'm', true),
        ("default", 'd', true),
        ("timeout", 't', true),
        ("keep", 'k', false),
        ("retimeout", 'r', true),
    ];
    let parsed = parse(words, CHOOSE)?;
    let setting = single(parsed.rest, "a setting")?;
    let asked = parsed.value("default").map(str::to_owned);
    let first = || script.menu.items.first().cloned();
    let preferred = asked.or_else(|| script.menu.preferred.clone()).or_else(first);
    let chosen = preferred.ok_or("the menu is empty")?;
    script
        .settings
        .set(setting, &chosen)
        .map_err(|error| error.to_string())?;
    script.say(format!("nobody is here to choose: taken is {chosen}"));
    Ok(())
}

/// What the next URL with `##params` sends.
fn parameters(script: &mut State, name: &str, words: &[String]) -> Result<Outcome, String> {
    if name == "params" {
        parse(words, &[("name", 'n', true), ("delete", 'd', false)])?;
        script.params.clear();
        return Ok(Outcome::True);
    }
    let parsed = parse(words, &[("params", 'p', true), ("header", 'H', false)])?;
    if parsed.has("header") {
        return Err("a script sets no headers here".to_owned());
    }
    let (key, value) = parsed.rest.split_first().ok_or("it wants a name and a value")?;
    if script.params.len() >= MAX_ITEMS {
        return Err("there are too many parameters".to_owned());
    }
    script.params.push((key.clone(), value.join(" ")));
    Ok(Outcome::True)
}
