use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;

fn packed(path: &str, offset: u64) -> Packed {
    Packed {
        path: path.to_owned(),
        mode: 0o644,
        offset,
        packed: 30,
        size: 100,
        sha256: [0xa5; 32],
    }
}

fn module(name: &str, deps: &[&str], soft: &[&str]) -> Module {
    let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    Module {
        name: name.to_owned(),
        path: format!("/usr/lib/modules/6.12/kernel/{name}.ko"),
        deps: owned(deps),
        soft: owned(soft),
        ..Module::default()
    }
}

/// One record of each kind.
fn example() -> Parts {
    let pair = |a: &str, b: &str| (a.to_owned(), b.to_owned());
    let mut e1000e = module("e1000e", &["ptp", "pps_core"], &["mei"]);
    e1000e.options = "debug=1 IntMode=1,1".to_owned();
    e1000e.firmware = vec!["/usr/lib/firmware/e1000e.fw".to_owned()];
    Parts {
        kernel: "6.12.118+deb13-amd64".to_owned(),
        modules: vec![
            e1000e,
            module("ptp", &["pps_core"], &[]),
            module("pps_core", &[], &[]),
            module("mei", &["unix"], &[]),
        ],
        builtin: vec!["unix".to_owned()],
        files: vec![
            packed("/usr/lib/modules/6.12/kernel/ptp.ko", 0),
            packed("/usr/sbin/smartctl", 30),
        ],
        links: vec![pair("/usr/lib/libc.so", "libc.so.6")],
        groups: vec![(
            "smartctl".to_owned(),
            vec!["/usr/sbin/smartctl".to_owned(), "/usr/lib/libc.so".to_owned()],
        )],
        aliases: vec![pair("pci:v00008086d000010D3sv*", "e1000e"), pair("mei:*", "mei")],
    }
}

fn names(modules: &[&Module]) -> Vec<String> {
    modules.iter().map(|module| module.name.clone()).collect()
}

#[test]
fn a_manifest_answers_what_the_first_stage_asks() {
    let parts = example();
    let manifest = Manifest::read(&parts.to_string()).unwrap();
    assert_eq!(manifest.kernel(), "6.12.118+deb13-amd64");
    let fitting = manifest.modules_for("pci:v00008086d000010D3sv00008086sd0000A01Fbc02sc00i00");
    assert_eq!(names(&fitting), ["e1000e"]);
    assert_eq!(fitting[0], &parts.modules[0]);
    assert!(manifest.modules_for("pci:v00008086d000010D4sv0").is_empty());
    assert_eq!(
        names(&manifest.load_order("e1000e")),
        ["mei", "pps_core", "ptp", "e1000e"]
    );
    assert_eq!(manifest.module("pps-core"), Some(&parts.modules[2]));
    assert!(manifest.is_builtin("unix") && manifest.module("unix").is_none());
    assert!(manifest.load_order("unix").is_empty() && manifest.load_order("none").is_empty());
    assert_eq!(manifest.packed("/usr/sbin/smartctl"), Some(&parts.files[1]));
    assert_eq!(manifest.packed("/usr/lib/libc.so"), None);
    let group = manifest.group("smartctl").unwrap();
    assert_eq!(group.files, [&parts.files[1]]);
    assert_eq!(group.links, [("/usr/lib/libc.so", "libc.so.6")]);
    assert_eq!(manifest.group("shell"), None);
}

#[test]
fn what_is_needed_comes_first_also_where_soft_ones_go_in_a_circle() {
    let mut parts = example();
    parts.modules = vec![
        module("a", &[], &["b"]),
        // Wanted before `a`, and does not load without it.
        module("b", &["a"], &["c"]),
        module("c", &[], &["a"]),
    ];
    parts.aliases.clear();
    let manifest = Manifest::read(&parts.to_string()).unwrap();
    assert_eq!(names(&manifest.load_order("a")), ["c", "a", "b"]);
    assert_eq!(names(&manifest.load_order("b")), ["a", "c", "b"]);
}

#[test]
fn a_manifest_that_is_not_whole_is_refused() {
    let good = example().to_string();
    let line_of = |start: &str| 1 + good.lines().position(|line| line.starts_with(start)).unwrap();
    let last = good.lines().count() + 1;
    let sum = "a5".repeat(32);
    for (added, fault) in [
        ("disk\tx", Fault::UnknownRecord),
        ("", Fault::UnknownRecord),
        ("kernel\t6.1", Fault::Duplicate),
        ("builtin\tunix", Fault::Duplicate),
        ("builtin\tptp", Fault::Duplicate),
        ("builtin\tpps-core", Fault::Malformed),
        ("builtin\tx\t", Fault::Fields),
        ("module\tptp\t/x\t\t\t", Fault::Duplicate),
        ("module\tx\t/x\tnone\t\t", Fault::Missing),
        ("module\tx\t/x\t\tnone\t", Fault::Missing),
        ("module\tx\t/x\tx\t\t", Fault::DependencyOrder),
        ("module\tx\t/x\tptp\t\t", Fault::DependencyOrder),
        ("module\tx\t/x\tpps_core,ptp\t\t", Fault::DependencyOrder),
        ("module\tx\t/x\tpps_core,pps_core\t\t", Fault::Duplicate),
        ("module\tx\tx\t\t\t", Fault::Malformed),
        ("module\tx\t/a/../x\t\t\t", Fault::Malformed),
        ("module\tx\t/x\t,\t\t", Fault::Malformed),
        ("module\tx\t/x\t\t\t/y,", Fault::Malformed),
        ("alias\tpci:*\tnone", Fault::Missing),
        ("alias\tpci:\u{e9}\tptp", Fault::Malformed),
        ("options\tnone\ta=1", Fault::Missing),
        ("options\tptp\t", Fault::Malformed),
        ("options\te1000e\ta=1", Fault::Duplicate),
        ("link\t/usr/sbin/smartctl\tx", Fault::Duplicate),
        ("link\t/usr/lib/x\t../../../etc", Fault::Malformed),
        ("link\t/usr/lib/x\t", Fault::Malformed),
        ("group\tsmartctl\t/usr/sbin/smartctl", Fault::Duplicate),
        ("group\tshell\t/usr/bin/bash", Fault::Missing),
        (&format!("file\t/x\t644\t59\t30\t100\t{sum}"), Fault::Overlap),
        (&format!("file\t/x\t644\t30\t29\t100\t{sum}"), Fault::Overlap),
        (&format!("file\t/x\t4755\t60\t30\t100\t{sum}"), Fault::Malformed),
        (&format!("file\t/x\t644\t60\t0\t100\t{sum}"), Fault::Malformed),
        (&format!("file\t/x\t644\t-1\t30\t100\t{sum}"), Fault::Malformed),
        (
            &format!("file\t/x\t644\t{}\t30\t100\t{sum}", u64::MAX),
            Fault::Malformed,
        ),
        (&format!("file\t/x\t644\t60\t30\t{}\t{sum}", u64::MAX), Fault::Malformed),
        (&format!("file\t/x\t644\t60\t30\t100\t{sum}0"), Fault::Malformed),
        (
            &format!("file\t/x\t644\t60\t30\t100\t{}", sum.to_uppercase()),
            Fault::Malformed,
        ),
    ] {
        let error = Manifest::read(&format!("{good}{added}\n")).unwrap_err();
        // Of two that overlap, the one that begins later is named; of the rest, the last line.
        let expected = if fault == Fault::Overlap && added.contains("29") {
            line_of("file\t/usr/sbin/smartctl")
        } else {
            last
        };
        assert_eq!((error.fault, error.line), (fault, expected), "{added}");
    }
    let shared = format!("{good}file\t/x\t644\t30\t30\t100\t{sum}\n");
    assert!(Manifest::read(&shared).is_ok(), "one member under two paths");
    let headless = good.split_once('\n').unwrap().1;
    assert_eq!(Manifest::read(headless).unwrap_err().fault, Fault::Missing);
    assert_eq!(
        Manifest::read(&format!("{good}builtin\t{}\n", "x".repeat(2000)))
            .unwrap_err()
            .fault,
        Fault::Malformed
    );
    assert_eq!(Manifest::read(&" ".repeat(17 << 20)).unwrap_err().fault, Fault::TooLong);
}

/// Modules `m0`, `m1` …, each with some of the earlier ones as direct needs, and any as soft ones.
fn graphs() -> impl Strategy<Value = Vec<(Vec<usize>, Vec<usize>)>> {
    let one = || {
        let some = || prop::collection::vec(any::<prop::sample::Index>(), 0..4);
        (some(), some())
    };
    prop::collection::vec(one(), 1..20).prop_map(|rows| {
        let count = rows.len();
        let row = |(number, (deps, soft)): (usize, (Vec<prop::sample::Index>, Vec<prop::sample::Index>))| {
            let deps = deps.iter().filter(|_| number > 0).map(|dep| dep.index(number));
            (deps.collect(), soft.iter().map(|soft| soft.index(count)).collect())
        };
        rows.into_iter().enumerate().map(row).collect()
    })
}

/// Everything that a module needs, found step by step.
fn closure(graph: &[(Vec<usize>, Vec<usize>)], number: usize) -> BTreeSet<usize> {
    let mut all = BTreeSet::new();
    let mut next = graph[number].0.clone();
    while let Some(one) = next.pop() {
        if all.insert(one) {
            next.extend(&graph[one].0);
        }
    }
    all
}

/// The definition word by word, by recursion: before a module what it or its needs want softly, then its needs, then itself.
fn slow_order(graph: &[(Vec<usize>, Vec<usize>)], number: usize, begun: &mut BTreeSet<usize>, out: &mut Vec<usize>) {
    if !begun.insert(number) {
        return;
    }
    let mut all: Vec<usize> = closure(graph, number).into_iter().collect();
    all.push(number);
    for soft in all.iter().flat_map(|one| graph[*one].1.clone()) {
        slow_order(graph, soft, begun, out);
    }
    for one in all {
        if !out.contains(&one) {
            out.push(one);
        }
    }
}

proptest! {
    #[test]
    fn any_text_is_read_or_refused(text in "(kernel|file|link|module|options|alias|builtin|group|\\PC{0,4}|\t|/|,|[a-z]{1,3}|0|\n){0,60}") {
        let _ = Manifest::read(&text);
    }

    #[test]
    fn any_change_of_a_manifest_is_read_or_refused(cut in any::<prop::sample::Index>(), with in "[\t\n/,a-z0-9]{0,3}") {
        let good = example().to_string();
        let at = cut.index(good.len());
        let _ = Manifest::read(&format!("{}{with}{}", &good[..at], &good[at..]));
        let _ = Manifest::read(&format!("{}{with}", &good[..at]));
    }

    #[test]
    fn loads_in_the_order_of_its_definition(graph in graphs()) {
        let name = |number: &usize| format!("m{number}");
        let mut parts = Parts { kernel: "6".to_owned(), ..Parts::default() };
        for (number, (_, soft)) in graph.iter().enumerate() {
            parts.modules.push(Module {
                name: name(&number),
                path: "/m".to_owned(),
                // Numbers are an order of loading.
                deps: closure(&graph, number).iter().rev().map(name).collect(),
                soft: soft.iter().map(name).collect(),
                ..Module::default()
            });
        }
        let manifest = Manifest::read(&parts.to_string()).unwrap();
        for number in 0..graph.len() {
            let order = manifest.load_order(&name(&number));
            let mut expected = Vec::new();
            slow_order(&graph, number, &mut BTreeSet::new(), &mut expected);
            prop_assert_eq!(names(&order), expected.iter().map(name).collect::<Vec<_>>());
            let place: BTreeMap<_, _> = order.iter().map(|module| module.name.as_str()).zip(0..).collect();
            for module in &order {
                let is_before = |dep: &String| place[dep.as_str()] < place[module.name.as_str()];
                prop_assert!(module.deps.iter().all(is_before));
            }
        }
    }

    #[test]
    fn what_is_written_is_read_back(
        found in prop::collection::btree_map("[A-Za-z0-9_]{1,8}", ("[ -~]{0,20}", 0u32..0o777, 1u64..1000, any::<[u8; 32]>()), 1..20),
        version in "[0-9a-z.+-]{1,20}",
    ) {
        let mut parts = Parts { kernel: version, ..Parts::default() };
        let mut offset = 0;
        for (name, (text, mode, size, sha256)) in &found {
            let path = format!("/usr/lib/{name}.ko");
            parts.files.push(Packed { path: path.clone(), mode: *mode, offset, packed: *size, size: *size, sha256: *sha256 });
            offset += size;
            parts.modules.push(Module {
                name: name.clone(),
                path: path.clone(),
                firmware: vec![path.clone()],
                options: text.clone(),
                ..Module::default()
            });
            parts.links.push((format!("/lib/{name}"), format!("../usr/lib/{name}.ko")));
            parts.groups.push((name.clone(), vec![path, format!("/lib/{name}")]));
            parts.aliases.push((format!("test:{name}"), name.clone()));
        }
        let manifest = Manifest::read(&parts.to_string()).unwrap();
        prop_assert_eq!(manifest.kernel(), &parts.kernel);
        prop_assert_eq!(manifest.modules(), &parts.modules);
        prop_assert_eq!(manifest.files(), &parts.files);
        for ((name, paths), (path, target)) in parts.groups.iter().zip(&parts.links) {
            let group = manifest.group(name).unwrap();
            prop_assert_eq!(group.files, [manifest.packed(&paths[0]).unwrap()]);
            prop_assert_eq!(group.links, [(path.as_str(), target.as_str())]);
            prop_assert_eq!(manifest.modules_for(&format!("test:{name}")), [manifest.module(name).unwrap()]);
        }
    }
}
