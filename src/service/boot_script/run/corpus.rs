//! The shapes that boot scripts have in the field, each with what iPXE starts from it, and how far a reader of three words gets:
//! `kernel`, `initrd` and `boot`, all else passed over, as LinuxBoot's u-root has it (its `pkg/boot/netboot/ipxe`).

use std::collections::HashMap;

use super::super::Plan;
use super::tests::{plan, run_in};

type Files = &'static [(&'static str, &'static str)];

/// Where it is seen; the script; what other files there are; kernel, command line and initrds.
type Shape = (
    &'static str,
    &'static str,
    Files,
    &'static str,
    &'static str,
    &'static [&'static str],
);

const SHAPES: &[Shape] = &[
    (
        "plain, of many hand-written servers",
        "kernel http://a/linux console=ttyS0\ninitrd http://a/i.img\nboot\n",
        &[],
        "http://a/linux",
        "console=ttyS0",
        &["http://a/i.img"],
    ),
    (
        "plain, with names beside the script",
        "kernel linux root=/dev/ram0\ninitrd i.img\nboot\n",
        &[],
        "http://m/d/linux",
        "root=/dev/ram0",
        &["http://m/d/i.img"],
    ),
    (
        "assisted-service",
        "initrd --name initrd http://a/i.img?arch=x86_64\nkernel http://a/linux initrd=initrd a.kargs=\"tty1 tty2\"\nboot\n",
        &[],
        "http://a/linux",
        "initrd=initrd a.kargs=\"tty1 tty2\"",
        &["http://a/i.img?arch=x86_64"],
    ),
    (
        "matchbox",
        "chain ipxe?mac=${net0/mac:hexhyp}\n",
        &[(
            "http://m/d/ipxe?mac=52-54-00-12-34-56",
            "#!ipxe\nkernel /linux initrd=i.img\ninitrd /i.img\nboot\n",
        )],
        "http://m/linux",
        "initrd=i.img",
        &["http://m/i.img"],
    ),
    (
        "operators that fill in a template",
        "set svc http://a\nset kernel-url ${svc}/linux\necho Loading\nkernel ${kernel-url} c=${svc}/x/${net0/mac}\n\
         initrd ${svc}/i.img\necho Booting\nboot\n",
        &[],
        "http://a/linux",
        "c=http://a/x/52:54:00:12:34:56",
        &["http://a/i.img"],
    ),
    (
        "Ironic, which tries again",
        "set attempts:int32 10\nset i:int32 0\ngoto deploy\n:deploy\nimgfree\n\
         kernel --timeout 120 http://a/linux BOOTIF=${mac} initrd=i.img || goto retry\n\
         initrd --timeout 120 http://a/i.img || goto retry\nboot\n\
         :retry\niseq ${i} ${attempts} && goto fail ||\ninc i\nsleep ${i}\ngoto deploy\n:fail\npoweroff\n",
        &[],
        "http://a/linux",
        "BOOTIF=52:54:00:12:34:56 initrd=i.img",
        &["http://a/i.img"],
    ),
    (
        "menus, as netboot.xyz has them",
        "isset ${menu-default} || set menu-default local\ncpuid --ext 29 && set arch amd64 || set arch i386\n:start\nmenu Boot\n\
         item --gap -- Systems\nitem --key d debian Debian\nitem local Disk\n\
         choose --timeout 5000 --default debian picked || goto start\ngoto ${picked}\n:local\nexit\n\
         :debian\nkernel http://a/${arch}/linux\ninitrd http://a/${arch}/i.img\nimgargs linux auto=true\nboot || goto start\n",
        &[],
        "http://a/amd64/linux",
        "auto=true",
        &["http://a/amd64/i.img"],
    ),
    (
        "a script for all architectures",
        "iseq ${buildarch} arm64 && set k Image || set k linux\niseq ${buildarch} x86_64 && goto pc ||\nexit 1\n\
         :pc\nconsole --keep --picture http://a/p.png\nkernel http://a/${k} a\nboot\n",
        &[],
        "http://a/linux",
        "a",
        &[],
    ),
    (
        "a port that may not be up",
        ":again\ndhcp net0 || goto again\nisset ${net0/ip} && goto up || goto again\n:up\nkernel --name k http://a/linux ip=${net0/ip}\nboot k\n",
        &[],
        "http://a/linux",
        "ip=192.0.2.7",
        &[],
    ),
    (
        "a mirror that is gone",
        "kernel http://a/gone x || kernel http://b/linux x\nboot\n",
        &[],
        "http://b/linux",
        "x",
        &[],
    ),
    (
        "long lines",
        "kernel http://a/linux \\\n  initrd=i.img \\\n  quiet\ninitrd http://a/i.img\nboot\n",
        &[],
        "http://a/linux",
        "initrd=i.img quiet",
        &["http://a/i.img"],
    ),
    (
        "several archives, and a file in its place",
        "kernel http://a/linux\ninitrd http://a/ucode.img\ninitrd http://a/main.img\ninitrd http://a/x.img /etc/x mode=600 mkdir=1\nboot\n",
        &[],
        "http://a/linux",
        "",
        &["http://a/ucode.img", "http://a/main.img", "http://a/x.img /etc/x"],
    ),
    (
        "a machine that tells about itself",
        "params\nparam mac ${net0/mac}\nparam arch ${buildarch}\nchain --replace --autofree http://a/boot##params\n",
        &[("http://a/boot", "#!ipxe\nkernel linux one\nboot\n")],
        "http://a/linux",
        "one",
        &[],
    ),
    (
        "a script that starts another by boot",
        "set repo http://a\nprompt --key s --timeout 1500 s for a shell && shell ||\nboot ${repo}/live.ipxe\n",
        &[(
            "http://a/live.ipxe",
            "#!ipxe\nkernel live/linux\ninitrd live/i.img\nboot\n",
        )],
        "http://a/live/linux",
        "",
        &["http://a/live/i.img"],
    ),
];

/// Kernel, command line and initrds, an initrd with its place behind it.
type Started = (String, String, Vec<String>);

fn started(plan: &Plan) -> Started {
    let initrd = |initrd: &super::super::Initrd| {
        let place = initrd.place.as_ref().map(|place| format!(" /{}", place.path));
        format!("{}{}", initrd.url, place.unwrap_or_default())
    };
    let initrds = plan.initrds.iter().map(initrd).collect();
    (plan.url.clone(), plan.command_line.clone(), initrds)
}

fn three_words(script: &str) -> Started {
    let beside = |name: &str| match name.contains("://") {
        true => name.to_owned(),
        false => format!("http://m/d/{name}"),
    };
    let (mut kernel, mut line, mut initrds) = (String::new(), String::new(), Vec::new());
    for words in script.lines().map(|line| line.split_whitespace().collect::<Vec<_>>()) {
        match words[..] {
            ["kernel", url, ref rest @ ..] => (kernel, line) = (beside(url), rest.join(" ")),
            ["initrd", urls, ..] => initrds = urls.split(',').map(beside).collect(),
            ["boot", ..] => break,
            _ => {}
        }
    }
    (kernel, line, initrds)
}

#[test]
fn scripts_of_the_field_start_what_they_mean() {
    let mut right = [0, 0];
    for (name, script, files, kernel, line, initrds) in SHAPES {
        let meant: Started = (
            (*kernel).to_owned(),
            (*line).to_owned(),
            initrds.iter().map(|initrd| (*initrd).to_owned()).collect(),
        );
        let ran = run_in(&HashMap::from_iter(files.iter().copied()), script, true);
        assert_eq!(started(plan(&ran)), meant, "{name}");
        right[0] += 1;
        right[1] += usize::from(three_words(script) == meant);
    }
    // README says these numbers.
    assert_eq!((right, SHAPES.len()), ([14, 2], 14));
}
