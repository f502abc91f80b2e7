use std::collections::HashMap;

use proptest::prelude::*;

use std::time::Duration;

use super::super::{Initrd, Place, Plan, Processor};
use super::*;

const KERNEL: &[u8] = b"MZ kernel";

/// A network of files, and what came of a script in it.
pub(super) struct Ran {
    end: Request,
    said: Vec<String>,
    fetched: Vec<String>,
    posted: Vec<(String, String)>,
    waited: Duration,
}

fn fetched(bytes: impl Into<Vec<u8>>) -> Answer {
    let (url, bytes) = (None, bytes.into());
    Answer::Fetched { url, bytes }
}

fn settings() -> Settings {
    let mut settings = Settings::with_boot_port(0);
    settings.put("net0", "mac", "52:54:00:12:34:56");
    settings.put("net0", "ip", "192.0.2.7");
    settings.put("", "buildarch", "x86_64");
    settings.put("net0-42", "mac", "52:54:00:12:34:56");
    settings.put("net0", "machyp", "52-54-00-12-34-56");
    for (name, value) in [
        ("uuid", "00112233-4455-6677-8899-aabbccddeeff"),
        ("serial", "S 1"),
        ("hostname", "n1"),
        ("platform", "pcbios"),
        ("next-server", "192.0.2.1"),
    ] {
        settings.put("", name, value);
    }
    let (extended_edx, ecx) = (1 << 29, 1 << 31);
    settings.on(Some(Processor {
        extended_edx,
        ecx,
        ..Processor::default()
    }))
}

pub(super) fn run_in(files: &HashMap<&str, &str>, script: &str, boots: bool) -> Ran {
    let whole = match script.starts_with("#!") {
        true => script.to_owned(),
        false => format!("#!ipxe\n{script}"),
    };
    let read = Script::read(whole.as_bytes()).unwrap();
    let mut interpreter = Interpreter::new(read, Some("http://m/d/boot.ipxe?mac=1"), settings());
    let mut ran = Ran {
        end: Request::Exit(0),
        said: vec![],
        fetched: vec![],
        posted: vec![],
        waited: Duration::ZERO,
    };
    let mut answer = Answer::Done;
    loop {
        let request = interpreter.next(std::mem::replace(&mut answer, Answer::Done));
        match request {
            Request::Fetch { url, post, .. } => {
                answer = match files.get(url.as_str()) {
                    Some(content) => fetched(content.as_bytes().to_vec()),
                    None if url.contains(".img") || url.ends_with("linux") => fetched(KERNEL.to_vec()),
                    None => Answer::Failed("404 Not Found".to_owned()),
                };
                ran.fetched.push(url);
                ran.posted.extend(post);
            }
            Request::Say(text) => ran.said.push(text),
            Request::Wait(time) => ran.waited += time,
            Request::LookUp(name) if name == "here.example" => answer = Answer::Address([192, 0, 2, 9].into()),
            Request::LookUp(_) => answer = Answer::Failed("no such host".to_owned()),
            Request::Boot(_) if !boots => answer = Answer::Failed("no kexec here".to_owned()),
            end => {
                ran.end = end;
                return ran;
            }
        }
    }
}

fn run(script: &str) -> Ran {
    run_in(&HashMap::new(), script, true)
}

pub(super) fn plan(ran: &Ran) -> &Plan {
    match &ran.end {
        Request::Boot(plan) => plan,
        other => panic!("{other:?} after {:?}", ran.said),
    }
}

#[test]
fn kernel_and_initrds_become_a_plan() {
    let ran = run(
        "kernel http://a/linux console=ttyS0 x=\"1 2\"\ninitrd --name one b.img\ninitrd /c.img\ninitrd d.img /etc/x mode=600 mkdir=-1\ninitrd e.img x=y /etc/z\nboot\n",
    );
    let plan = plan(&ran);
    assert_eq!(plan.url, "http://a/linux");
    assert_eq!(plan.command_line, "console=ttyS0 x=\"1 2\"");
    let initrds: Vec<_> = plan
        .initrds
        .iter()
        .map(|Initrd { name, url, place, .. }| (name.as_str(), url.as_str(), place.clone()))
        .collect();
    let packed = Place {
        path: "etc/x".to_owned(),
        mode: 0o600,
        folders: usize::MAX,
    };
    assert_eq!(
        initrds,
        [
            ("one", "http://m/d/b.img", None),
            ("c.img", "http://m/c.img", None),
            ("d.img", "http://m/d/d.img", Some(packed)),
            ("e.img", "http://m/d/e.img", None),
        ]
    );
}

#[test]
fn names_are_looked_for_where_a_redirection_led() {
    let script = Script::read(b"#!ipxe\nchain two").unwrap();
    let mut interpreter = Interpreter::new(script, Some("http://m/d/boot.ipxe"), settings());
    assert!(matches!(interpreter.next(Answer::Done), Request::Fetch { url, .. } if url == "http://m/d/two"));
    let (url, bytes) = (Some("http://n/e/two".to_owned()), b"#!ipxe\nkernel linux\n".to_vec());
    let next = interpreter.next(Answer::Fetched { url, bytes });
    assert!(matches!(next, Request::Fetch { url, .. } if url == "http://n/e/linux"));
}

/// The shape that assisted-service hands out.
#[test]
fn quoted_arguments_pass_as_they_are() {
    let ran = run("initrd --name initrd http://i/x.img?token=a&b=c\n\
         kernel http://i/linux initrd=initrd coreos.inst.persistent-kargs=\"console=tty1 console=ttyS1,115200n8\"\nboot\n");
    assert_eq!(
        plan(&ran).command_line,
        "initrd=initrd coreos.inst.persistent-kargs=\"console=tty1 console=ttyS1,115200n8\""
    );
    assert_eq!(plan(&ran).initrds[0].url, "http://i/x.img?token=a&b=c");
}

/// With `ipxe_script_type=boot-order-control`, assisted-service has no second script for a machine that is to boot from its disk.
#[test]
fn a_machine_that_is_installed_is_given_nothing() {
    let script = "chain http://s/files?file_name=ipxe-script&api_key=k&mac=${net0/mac}\n";
    let ran = run(script);
    assert_eq!(
        ran.fetched,
        ["http://s/files?file_name=ipxe-script&api_key=k&mac=52:54:00:12:34:56"]
    );
    assert!(matches!(ran.end, Request::Failed(why) if why.ends_with("404 Not Found")));
    let second = "#!ipxe\ninitrd --name initrd http://i/x.img\nkernel http://i/linux initrd=initrd a=\"b c\"\nboot\n";
    let files = HashMap::from([(
        "http://s/files?file_name=ipxe-script&api_key=k&mac=52:54:00:12:34:56",
        second,
    )]);
    let ran = run_in(&files, script, true);
    assert_eq!(plan(&ran).command_line, "initrd=initrd a=\"b c\"");
}

#[test]
fn what_follows_a_command_is_decided_by_its_end() {
    for (line, said) in [
        ("isset x && echo yes || echo no", "yes"),
        ("isset ${x} && echo yes || echo no", "no"),
        ("iseq a b || echo no && echo on", "no on"),
        ("iseq a a || echo no && echo on", "on"),
        ("isset ${x} ||\necho further", "further"),
        ("isset ${x} ; echo always", "always"),
        ("goto end && echo never\necho never\n:end echo end", "end"),
        ("inc n && inc n && iseq ${n} 2 && echo two", "two"),
        ("nonsense || echo told", "line 2: nonsense: there is no such word told"),
        (
            "sanboot http://a || echo told",
            "line 2: sanboot: it cannot be done once a system runs told",
        ),
        ("set a 1 2 && echo ${a}", "1 2"),
        ("goto nowhere || echo told", "line 2: there is no label :nowhere told"),
        ("echo a # b", "a"),
        ("cpuid --ext 29 && echo 64 || echo 32", "64"),
        ("cpuid --ecx 31 && echo virtual", "virtual"),
        ("cpuid --ext --ecx 29 || cpuid 29 || echo none", "none"),
        ("cpuid 32 || echo told", "line 2: cpuid: a register has 32 bits told"),
        ("vcreate --tag 42 net0 && echo there", "there"),
        (
            "vcreate --tag 43 net0 || echo told",
            "line 2: vcreate: there is no VLAN net0-43: none is made or removed once a system runs told",
        ),
        ("nslookup a here.example && echo ${a}", "192.0.2.9"),
        (
            "nslookup a:hex here.example || nslookup b none.example || echo none",
            "line 2: nslookup: \"192.0.2.9\" is no value for a:hex line 2: nslookup: no such host none",
        ),
        (
            "imgverify x http://a/x.sig || echo told",
            "line 2: imgverify: signatures of images are not checked here told",
        ),
        ("iflinkwait --timeout 100 net0 && echo up", "up"),
        ("ifopen net1 || echo none", "line 2: ifopen: there is no port net1 none"),
        (
            "menu what\nitem a A\nitem --default b B\nchoose x && echo ${x}",
            "what   a: A   b: B nobody is here to choose: taken is b b",
        ),
    ] {
        let ran = run(line);
        assert_eq!(ran.said.join(" "), said, "{line}");
        assert_eq!(ran.end, Request::Exit(0), "{line}");
    }
}

#[test]
fn a_line_that_fails_ends_the_script() {
    let ran = run("echo a\nkernel http://m/gone\necho b\n");
    assert_eq!(
        ran.end,
        Request::Failed("line 3: http://m/gone: 404 Not Found".to_owned())
    );
    assert!(!ran.said.contains(&"b".to_owned()));
    assert!(matches!(run("isset ${x}").end, Request::Failed(_)));
    assert_eq!(run("exit 3\necho never").end, Request::Exit(3));
}

#[test]
fn scripts_chain_and_come_back() {
    let files = HashMap::from([
        ("http://m/d/two", "#!ipxe\necho two\nset x 2\nkernel k.linux\n"),
        ("http://m/e/three", "#!ipxe\necho ${cwuri}\nkernel linux three\nboot\n"),
        ("http://m/d/bad", "#!ipxe\nexit 1\necho never\n"),
    ]);
    let ran = run_in(
        &files,
        "chain two\necho back ${x}\nchain bad || echo bad\nchain --replace ../e/three\necho never\n",
        true,
    );
    assert_eq!(ran.said, ["two", "back 2", "bad", "http://m/e/three"]);
    assert_eq!(plan(&ran).url, "http://m/e/linux");
    assert_eq!(plan(&ran).command_line, "three");
}

#[test]
fn a_failure_in_another_script_names_that() {
    let files = HashMap::from([
        ("http://me:pw@m/bad", "#!ipxe\nkernel gone\n"),
        ("http://m/d/asks", "#!ipxe\necho a\nisset ${nothing}\n"),
        ("http://m/d/ends", "#!ipxe\nexit 1\n"),
    ]);
    for (script, why) in [
        (
            "chain http://me:pw@m/bad\n",
            "line 2: line 2 of http://m/bad: http://me:pw@m/gone: 404 Not Found",
        ),
        (
            "chain --replace http://me:pw@m/bad\n",
            "line 2 of http://m/bad: http://me:pw@m/gone: 404 Not Found",
        ),
        (
            "chain asks\n",
            "line 2: line 3 of http://m/d/asks: what it asks is not so, and the script does not say what to do then",
        ),
        ("chain ends\n", "line 2: line 2 of http://m/d/ends: it ended with 1"),
    ] {
        assert_eq!(
            run_in(&files, script, true).end,
            Request::Failed(why.to_owned()),
            "{script}"
        );
    }
}

#[test]
fn a_kernel_that_does_not_start_is_an_answer() {
    let ran = run_in(
        &HashMap::new(),
        "kernel http://a/linux\nboot || echo other way\n",
        false,
    );
    assert_eq!(ran.said, ["line 3: boot: no kexec here", "other way"]);
    assert_eq!(ran.end, Request::Exit(0));
}

#[test]
fn parameters_are_posted_once() {
    let files = HashMap::from([("http://m/d/p", "#!ipxe\necho got\n"), ("http://m/d/q", "#!ipxe\n")]);
    let ran = run_in(
        &files,
        "params\nparam mac ${net0/mac}\nparam a b c\nchain p##params\nchain q\n",
        true,
    );
    assert_eq!(
        ran.posted,
        [
            ("mac".to_owned(), "52:54:00:12:34:56".to_owned()),
            ("a".to_owned(), "b c".to_owned())
        ]
    );
    assert_eq!(ran.fetched, ["http://m/d/p", "http://m/d/q"]);
}

#[test]
fn nothing_goes_on_for_ever() {
    let files = HashMap::from([("http://m/d/boot.ipxe", "#!ipxe\nchain boot.ipxe\n")]);
    let chained = run_in(&files, "chain boot.ipxe\n", true).end;
    assert!(matches!(chained, Request::Failed(why) if why.contains("chain one another")));
    let circle = run(":again\ngoto again\n").end;
    assert!(matches!(circle, Request::Failed(why) if why.contains("commands")));
    let fetches: String = (0..200)
        .map(|number| format!("initrd http://a/{number}.img\n"))
        .collect();
    assert!(matches!(run(&fetches).end, Request::Failed(why) if why.contains("images")));
    assert_eq!(run("sleep 99999999").waited, Duration::from_secs(3600));
}

#[test]
fn no_line_and_no_number_of_scripts_takes_much_memory() {
    let of_many = |end: Request| matches!(end, Request::Failed(why) if why.contains("letters in a line"));
    let set = format!("set x {}\n", "x".repeat(16 << 10));
    assert!(of_many(run(&format!("{set}echo {}", "${x} ".repeat(5))).end));
    assert!(!of_many(run(&format!("{set}echo {}", "${x} ".repeat(3))).end));
    // Sixteen of half a MiB.
    let big = format!("#!ipxe\n{}", format!("#{}\n", "x".repeat(1 << 15)).repeat(16));
    let names: Vec<String> = (0..20).map(|number| format!("http://m/{number}")).collect();
    let files = names.iter().map(|name| (name.as_str(), big.as_str())).collect();
    let fetch = |count: usize| -> String { names[..count].iter().map(|name| format!("imgfetch {name}\n")).collect() };
    assert_eq!(run_in(&files, &fetch(14), true).end, Request::Exit(0));
    let end = run_in(&files, &fetch(17), true).end;
    assert!(
        matches!(&end, Request::Failed(why) if why.contains("too many scripts")),
        "{end:?}"
    );
    // Freed ones do not count.
    let freed = format!("{}imgfree\n{}", fetch(14), fetch(14));
    assert_eq!(run_in(&files, &freed, true).end, Request::Exit(0));
}

#[test]
fn a_long_line_of_short_commands_is_soon_done() {
    let line = "iseq a b && ".repeat(5000);
    assert!(matches!(run(&format!("iseq a b || {line}")).end, Request::Failed(_)));
}

#[test]
fn a_user_goes_along_to_the_same_place_and_to_no_other() {
    let text = b"#!ipxe\necho ${cwuri}\nimgfetch ${cwuri}.1\nimgfetch 2\nimgfetch http://other/?${cwuri}\nimgfetch http://m:81/3\nimgfetch http://v:q@m/4\n";
    let mut interpreter = Interpreter::new(Script::read(text).unwrap(), Some("http://u:hunter2@m/d/s"), settings());
    let mut seen = vec![];
    let mut answer = Answer::Done;
    loop {
        match interpreter.next(answer) {
            Request::Say(text) => seen.push(text),
            Request::Fetch { url, .. } => seen.push(url),
            _ => break,
        }
        answer = fetched(KERNEL);
    }
    assert_eq!(
        seen,
        [
            "http://m/d/s",
            "http://u:hunter2@m/d/s.1",
            "http://u:hunter2@m/d/2",
            "http://other/?http://m/d/s",
            "http://m:81/3",
            "http://v:q@m/4",
        ]
    );
}

#[test]
fn secrets_are_not_shown() {
    let ran = run(
        "set api_token a b\nset other c\nshow api_token && show other\nimgfetch http://u:hunter2/x@m/ || echo told",
    );
    assert_eq!(
        ran.said,
        [
            "api_token = [hidden]",
            "other = c",
            "line 5: what is to be fetched is no URL",
            "told"
        ]
    );
}

#[test]
fn letters_that_no_url_has_are_escaped() {
    let ran = run("kernel http://a/x{1}.img?n=${nothing}|2\nboot");
    assert_eq!(ran.fetched, ["http://a/x%7B1%7D.img?n=%7C2"]);
}

/// iPXE's `imgacquire` of every word that wants an image: one of that name is taken, and anything else is a URL.
#[test]
fn an_image_is_known_by_its_name_and_a_url_is_fetched_again() {
    let ran =
        run("imgfetch --name k http://a/x.img\nimgfetch --name i http://a/y.img\ninitrd --name z i\nkernel k a\nboot");
    assert_eq!(ran.fetched, ["http://a/x.img", "http://a/y.img"]);
    let plan = plan(&ran);
    assert_eq!((plan.url.as_str(), plan.command_line.as_str()), ("http://a/x.img", "a"));
    assert_eq!((plan.initrds.len(), plan.initrds[0].name.as_str()), (1, "z"));
    let files = HashMap::from([("http://a/next", "#!ipxe\ninc n\n")]);
    let ran = run_in(&files, ":poll\nchain http://a/next\niseq ${n} 3 || goto poll\n", true);
    assert_eq!((ran.end, ran.fetched.len()), (Request::Exit(0), 3));
}

#[test]
fn a_script_that_runs_is_no_image() {
    // It chains to another state of itself, by the name that it has.
    let files = HashMap::from([(
        "http://m/d/again",
        "#!ipxe\ninc n\niseq ${n} 3 && exit 0 ||\nchain again\n",
    )]);
    let ran = run_in(&files, "chain again\n", true);
    assert_eq!((ran.end, ran.fetched.len()), (Request::Exit(0), 3));
    // Afterwards it is one.
    let files = HashMap::from([("http://m/d/again", "#!ipxe\ninc n\n")]);
    let ran = run_in(&files, "chain again\nchain again\n", true);
    assert_eq!((ran.end, ran.fetched.len()), (Request::Exit(0), 1));
    let ran = run_in(&files, "chain --autofree again\nchain again\n", true);
    assert_eq!(ran.fetched.len(), 2);
}

/// iPXE hands every image to the kernel, scripts that came back too; those have had their use.
#[test]
fn a_script_that_was_named_as_an_initrd_is_one() {
    let files = HashMap::from([("http://m/d/two", "#!ipxe\n"), ("http://m/d/three", "#!ipxe\n")]);
    let names = |script: &str| -> Vec<String> {
        let ran = run_in(&files, script, true);
        plan(&ran).initrds.iter().map(|initrd| initrd.name.clone()).collect()
    };
    assert_eq!(names("kernel linux\ninitrd two\nboot"), ["two"]);
    assert_eq!(
        names("kernel linux\ninitrd two\nimgfetch three\nimgexec three\nboot"),
        ["two"]
    );
    assert_eq!(names("chain two\nkernel linux\ninitrd three /etc/x\nboot"), ["three"]);
}

#[test]
fn a_kernel_that_is_named_as_its_initrd_is_told() {
    let ran = run("kernel linux\ninitrd linux\nboot");
    assert!(plan(&ran).initrds.is_empty());
    assert_eq!(
        ran.said,
        ["linux is the image that boot starts: it does not go along as an initrd too"]
    );
    let ran = run("kernel http://a/linux\ninitrd http://a/linux\nboot");
    assert_eq!(
        ran.end,
        Request::Failed("line 4: boot: no image is selected".to_owned())
    );
    assert_eq!(
        ran.said[0],
        "line 3: linux takes the place of the image of that name, which boot would have started"
    );
    let ran = run("kernel http://a/linux\nkernel http://b/linux\nboot");
    assert_eq!((plan(&ran).url.as_str(), ran.said.len()), ("http://b/linux", 0));
}

#[test]
fn archives_are_unpacked_by_the_kernel_that_is_started() {
    let ran = run(
        "imgextract --name one http://a/x.img?a=1\nimgextract http://a/y.img.gz\nimgfetch z.img.xz\nimgextract z.img.xz\nkernel linux\nboot",
    );
    let names: Vec<_> = plan(&ran).initrds.iter().map(|initrd| initrd.name.as_str()).collect();
    assert_eq!(names, ["one", "y.img", "z.img"]);
    assert_eq!(ran.fetched.len(), 4);
}

proptest! {
    /// Any script comes to an end within its bounds, whatever the network says.
    #[test]
    fn any_script_ends(
        lines in proptest::collection::vec(
            prop_oneof![
                "(kernel|initrd|chain|boot|imgfree|goto|set|inc|isset|iseq|exit|:l|item|choose|params|param|sleep)( --[a-z]{1,8})?( [a-z${}/:.0-9|&]{0,12}){0,3}",
                "[ -~]{0,40}",
            ],
            0..40,
        ),
        fails in any::<u64>(),
    ) {
        let script = Script::read(format!("#!ipxe\n{}\n", lines.join("\n")).as_bytes()).unwrap();
        let mut interpreter = Interpreter::new(script, Some("http://m/s"), settings());
        let mut answer = Answer::Done;
        for step in 0..40_000_u32 {
            match interpreter.next(std::mem::replace(&mut answer, Answer::Done)) {
                Request::Fetch { .. } | Request::Boot(_) => {
                    answer = match fails >> (step % 64) & 1 {
                        0 => Answer::Failed("no".to_owned()),
                        _ => fetched(KERNEL.to_vec()),
                    };
                }
                Request::Say(_) | Request::Wait(_) => {}
                _ => return Ok(()),
            }
        }
        prop_assert!(false, "no end");
    }
}
