//! The shapes that boot scripts have in the field, each with what iPXE starts from it, and how far a reader of three words gets:
//! `kernel`, `initrd` and `boot`, all else passed over, as LinuxBoot's u-root has it (its `pkg/boot/netboot/ipxe`).
//!
//! Each is written here in the manner of its source, which is named; the files are also what the fuzzer begins with.

use std::collections::{BTreeMap, HashMap};

use super::super::Plan;
use super::tests::{plan, run_in};

struct Shape {
    family: &'static str,
    /// Where it is seen.
    #[expect(dead_code, reason = "for who reads this table")]
    source: &'static str,
    script: &'static str,
    /// Other scripts that there are, by their URLs.
    files: &'static [(&'static str, &'static str)],
    /// What is started, an initrd with its place behind its URL. These files are there, and no others.
    kernel: &'static str,
    line: &'static str,
    initrds: &'static [&'static str],
}

const SHAPES: &[Shape] = &[
    Shape {
        family: "Hand-written",
        source: "ipxe.org/scripting",
        script: include_str!("../../../../tests/fuzz/corpus/boot_script/plain"),
        files: &[],
        kernel: "http://a/linux",
        line: "console=ttyS0",
        initrds: &["http://a/i.img"],
    },
    Shape {
        family: "Hand-written",
        source: "ipxe.org/scripting",
        script: include_str!("../../../../tests/fuzz/corpus/boot_script/beside"),
        files: &[],
        kernel: "http://m/d/linux",
        line: "root=/dev/ram0",
        initrds: &["http://m/d/i.img"],
    },
    Shape {
        family: "Hand-written",
        source: "ipxe.org/cmd/set",
        script: include_str!("../../../../tests/fuzz/corpus/boot_script/template"),
        files: &[],
        kernel: "http://a/linux",
        line: "c=http://a/x/52:54:00:12:34:56",
        initrds: &["http://a/i.img"],
    },
    Shape {
        family: "Hand-written",
        source: "ipxe.org/cfg/buildarch",
        script: include_str!("../../../../tests/fuzz/corpus/boot_script/architectures"),
        files: &[],
        kernel: "http://a/linux",
        line: "a",
        initrds: &[],
    },
    Shape {
        family: "Hand-written",
        source: "ipxe.org/cmd/dhcp",
        script: include_str!("../../../../tests/fuzz/corpus/boot_script/port"),
        files: &[],
        kernel: "http://a/linux",
        line: "ip=192.0.2.7",
        initrds: &[],
    },
    Shape {
        family: "Hand-written",
        source: "ipxe.org/scripting",
        script: include_str!("../../../../tests/fuzz/corpus/boot_script/mirror"),
        files: &[],
        kernel: "http://b/linux",
        line: "x",
        initrds: &[],
    },
    Shape {
        family: "Hand-written",
        source: "ipxe.org/scripting",
        script: include_str!("../../../../tests/fuzz/corpus/boot_script/long-lines"),
        files: &[],
        kernel: "http://a/linux",
        line: "initrd=i.img quiet",
        initrds: &["http://a/i.img"],
    },
    Shape {
        family: "Hand-written",
        source: "ipxe.org/cmd/imgfetch",
        script: include_str!("../../../../tests/fuzz/corpus/boot_script/archives"),
        files: &[],
        kernel: "http://a/linux",
        line: "",
        initrds: &["http://a/ucode.img", "http://a/main.img", "http://a/x.img /etc/x"],
    },
    Shape {
        family: "Hand-written",
        source: "ipxe.org/cmd/imgexec",
        script: include_str!("../../../../tests/fuzz/corpus/boot_script/boots-a-script"),
        files: &[(
            "http://a/live.ipxe",
            include_str!("../../../../tests/fuzz/corpus/boot_script/boots-a-script.2"),
        )],
        kernel: "http://a/live/linux",
        line: "",
        initrds: &["http://a/live/i.img"],
    },
    Shape {
        family: "Hand-written",
        source: "ipxe.org/cmd/chain",
        script: include_str!("../../../../tests/fuzz/corpus/boot_script/polling"),
        files: &[(
            "http://a/next",
            include_str!("../../../../tests/fuzz/corpus/boot_script/polling.2"),
        )],
        kernel: "http://a/linux",
        line: "polls=3 seen=3",
        initrds: &[],
    },
    Shape {
        family: "Assisted installer",
        source: "openshift/assisted-service internal/ignition, internal/bminventory",
        script: include_str!("../../../../tests/fuzz/corpus/boot_script/assisted"),
        files: &[],
        kernel: "http://a/boot-artifacts/kernel?arch=x86_64&version=4.17",
        line: "initrd=initrd coreos.live.rootfs_url=http://a/boot-artifacts/rootfs?arch=x86_64&version=4.17 random.trust_cpu=on rd.luks.options=discard ignition.firstboot ignition.platform.id=metal console=tty1 console=ttyS1,115200n8 coreos.inst.persistent-kargs=\"console=tty1 console=ttyS1,115200n8\"",
        initrds: &["http://a/images/1/pxe-initrd?arch=x86_64&image_token=t&version=4.17"],
    },
    Shape {
        family: "Assisted installer",
        source: "openshift/assisted-service internal/ignition, internal/bminventory",
        script: include_str!("../../../../tests/fuzz/corpus/boot_script/assisted-boot-order"),
        files: &[(
            "http://a/v2/infra-envs/1/downloads/files?api_key=k&file_name=ipxe-script&mac=52:54:00:12:34:56",
            include_str!("../../../../tests/fuzz/corpus/boot_script/assisted-boot-order.2"),
        )],
        kernel: "http://a/linux",
        line: "initrd=initrd a=\"b c\"",
        initrds: &["http://a/i.img"],
    },
    Shape {
        family: "Assisted installer",
        source: "openshift/installer pkg/asset/agent/image",
        script: include_str!("../../../../tests/fuzz/corpus/boot_script/openshift-agent"),
        files: &[],
        kernel: "http://a/agent.x86_64-vmlinuz",
        line: "initrd=initrd coreos.live.rootfs_url=http://a/agent.x86_64-rootfs.img rw ignition.firstboot ignition.platform.id=metal",
        initrds: &["http://a/agent.x86_64-initrd.img"],
    },
    Shape {
        family: "matchbox",
        source: "poseidon/matchbox matchbox/http/ipxe.go",
        script: include_str!("../../../../tests/fuzz/corpus/boot_script/matchbox"),
        files: &[(
            "http://m/d/ipxe?uuid=00112233-4455-6677-8899-aabbccddeeff&mac=52-54-00-12-34-56&domain=&hostname=n1&serial=S%201",
            include_str!("../../../../tests/fuzz/corpus/boot_script/matchbox.2"),
        )],
        kernel: "http://m/assets/linux",
        line: "initrd=i.img",
        initrds: &["http://m/assets/i.img"],
    },
    Shape {
        family: "Ironic",
        source: "openstack/ironic ironic/drivers/modules/ipxe_config.template",
        script: include_str!("../../../../tests/fuzz/corpus/boot_script/ironic"),
        files: &[],
        kernel: "http://a/linux",
        line: "BOOTIF=52:54:00:12:34:56 initrd=i.img",
        initrds: &["http://a/i.img"],
    },
    Shape {
        family: "Ironic",
        source: "openstack/ironic ironic/drivers/modules/boot.ipxe",
        script: include_str!("../../../../tests/fuzz/corpus/boot_script/ironic-ports"),
        files: &[(
            "http://m/d/inspector.ipxe",
            include_str!("../../../../tests/fuzz/corpus/boot_script/ironic-ports.2"),
        )],
        kernel: "http://a/linux",
        line: "inspect",
        initrds: &["http://a/i.img"],
    },
    Shape {
        family: "netboot.xyz",
        source: "netbootxyz/netboot.xyz roles/netbootxyz/templates/menu",
        script: include_str!("../../../../tests/fuzz/corpus/boot_script/netboot-menu"),
        files: &[],
        kernel: "http://a/amd64/linux",
        line: "auto=true",
        initrds: &["http://a/amd64/i.img"],
    },
    Shape {
        family: "netboot.xyz",
        source: "netbootxyz/netboot.xyz roles/netbootxyz/templates/menu/boot.cfg.j2, menu.ipxe.j2",
        script: include_str!("../../../../tests/fuzz/corpus/boot_script/netboot-first-page"),
        files: &[(
            "http://m/d/linux.ipxe",
            include_str!("../../../../tests/fuzz/corpus/boot_script/netboot-first-page.2"),
        )],
        kernel: "http://a/debian/amd64/linux",
        line: "initrd=i.img",
        initrds: &["http://a/debian/amd64/i.img"],
    },
    Shape {
        family: "FOG",
        source: "FOGProject/fogproject packages/tftp/default.ipxe",
        script: include_str!("../../../../tests/fuzz/corpus/boot_script/fog"),
        files: &[(
            "http://a/fog/service/ipxe/boot.php",
            include_str!("../../../../tests/fuzz/corpus/boot_script/fog.2"),
        )],
        kernel: "http://a/fog/service/ipxe/bzImage",
        line: "loglevel=4 initrd=init.xz root=/dev/ram0 rw web=http://a/fog/ mac=52:54:00:12:34:56",
        initrds: &["http://a/fog/service/ipxe/init.xz"],
    },
    Shape {
        family: "FOG",
        source: "ipxe.org/cmd/params",
        script: include_str!("../../../../tests/fuzz/corpus/boot_script/posts"),
        files: &[(
            "http://a/boot",
            include_str!("../../../../tests/fuzz/corpus/boot_script/posts.2"),
        )],
        kernel: "http://a/linux",
        line: "one",
        initrds: &[],
    },
    Shape {
        family: "Tinkerbell",
        source: "tinkerbell/smee internal/ipxe/script/hook.go",
        script: include_str!("../../../../tests/fuzz/corpus/boot_script/tinkerbell"),
        files: &[],
        kernel: "http://a:8080/vmlinuz-x86_64",
        line: "syslog_host= worker_id=52:54:00:12:34:56 hw_addr=52:54:00:12:34:56 modules=loop,squashfs initrd=initramfs-x86_64 console=ttyS1,115200",
        initrds: &["http://a:8080/initramfs-x86_64"],
    },
    Shape {
        family: "Talos, Sidero",
        source: "siderolabs/sidero app/sidero-controller-manager/internal/ipxe",
        script: include_str!("../../../../tests/fuzz/corpus/boot_script/sidero"),
        files: &[(
            "http://m/d/ipxe?uuid=00112233-4455-6677-8899-aabbccddeeff&mac=52-54-00-12-34-56&domain=&hostname=n1&serial=S%201&arch=x86_64",
            include_str!("../../../../tests/fuzz/corpus/boot_script/sidero.2"),
        )],
        kernel: "http://m/env/agent/vmlinuz",
        line: "initrd=initramfs.xz talos.platform=metal",
        initrds: &["http://m/env/agent/initramfs.xz"],
    },
    Shape {
        family: "Talos, Sidero",
        source: "siderolabs/image-factory internal/frontend/http/pxe.go",
        script: include_str!("../../../../tests/fuzz/corpus/boot_script/talos-factory"),
        files: &[],
        kernel: "http://a/image/1/v1.9/kernel-amd64",
        line: "talos.platform=metal console=tty0 init_on_alloc=1 slab_nomerge pti=on consoleblank=0",
        initrds: &["http://a/image/1/v1.9/initramfs-amd64.xz"],
    },
    Shape {
        family: "Foreman, Cobbler",
        source: "theforeman/foreman app/views/unattended/provisioning_templates/iPXE",
        script: include_str!("../../../../tests/fuzz/corpus/boot_script/foreman"),
        files: &[],
        kernel: "http://a/linux",
        line: "initrd=i.img inst.ks=http://a/unattended/provision?token=1 inst.ks.sendmac ip=dhcp BOOTIF=52-54-00-12-34-56",
        initrds: &["http://a/i.img"],
    },
    Shape {
        family: "Foreman, Cobbler",
        source: "theforeman/foreman app/views/unattended/provisioning_templates/iPXE/ipxe_intermediate_script",
        script: include_str!("../../../../tests/fuzz/corpus/boot_script/foreman-ports"),
        files: &[(
            "http://a/unattended/iPXE?mac=52:54:00:12:34:56",
            include_str!("../../../../tests/fuzz/corpus/boot_script/foreman-ports.2"),
        )],
        kernel: "http://a/linux",
        line: "host=n1",
        initrds: &["http://a/i.img"],
    },
    Shape {
        family: "Foreman, Cobbler",
        source: "cobbler/cobbler templates/etc/default.ipxe.template, profile.ipxe.template",
        script: include_str!("../../../../tests/fuzz/corpus/boot_script/cobbler"),
        files: &[],
        kernel: "http://a/images/fedora/vmlinuz",
        line: "initrd=initrd.img inst.ks=http://a/ks/fedora",
        initrds: &["http://a/images/fedora/initrd.img"],
    },
    Shape {
        family: "MAAS",
        source: "canonical/maas src/provisioningserver/templates/pxe/ipxe.*.template",
        script: include_str!("../../../../tests/fuzz/corpus/boot_script/maas"),
        files: &[],
        kernel: "http://a/images/ubuntu/amd64/boot-kernel",
        line: "nomodeset root=squash:http://a/images/squashfs ip=::::n1:BOOTIF overlayroot=tmpfs cc:{'datasource_list':['MAAS']}end_cc cloud-config-url=http://a/preseed apparmor=0 BOOTIF=01-52-54-00-12-34-56",
        initrds: &["http://a/images/ubuntu/amd64/boot-initrd"],
    },
    Shape {
        family: "Distributions",
        source: "wiki.debian.org/PXEBootInstall",
        script: include_str!("../../../../tests/fuzz/corpus/boot_script/debian"),
        files: &[],
        kernel: "http://a/debian/dists/stable/main/installer-amd64/current/images/netboot/debian-installer/amd64/linux",
        line: "auto=true priority=critical preseed/url=http://a/p.cfg --- quiet",
        initrds: &[
            "http://a/debian/dists/stable/main/installer-amd64/current/images/netboot/debian-installer/amd64/initrd.gz",
        ],
    },
    Shape {
        family: "Distributions",
        source: "ubuntu.com/server/docs netboot installation",
        script: include_str!("../../../../tests/fuzz/corpus/boot_script/ubuntu"),
        files: &[],
        kernel: "http://a/casper/vmlinuz",
        line: "initrd=initrd ip=dhcp url=http://a/live-server.iso autoinstall ds=nocloud-net;s=http://a/ cloud-config-url=/dev/null",
        initrds: &["http://a/casper/initrd"],
    },
    Shape {
        family: "Distributions",
        source: "boot.alpinelinux.org boot.ipxe",
        script: include_str!("../../../../tests/fuzz/corpus/boot_script/alpine"),
        files: &[],
        kernel: "http://a/alpine/v3.20/releases/x86_64/netboot/vmlinuz-lts",
        line: "alpine_repo=http://a/alpine/v3.20/main modules=loop,squashfs modloop=http://a/alpine/v3.20/releases/x86_64/netboot/modloop-lts initrd=initramfs-lts",
        initrds: &["http://a/alpine/v3.20/releases/x86_64/netboot/initramfs-lts"],
    },
    Shape {
        family: "Distributions",
        source: "docs.fedoraproject.org fedora-coreos bare-metal",
        script: include_str!("../../../../tests/fuzz/corpus/boot_script/fedora-coreos"),
        files: &[],
        kernel: "http://a/prod/streams/stable/builds/42.1/x86_64/fedora-coreos-42.1-live-kernel.x86_64",
        line: "initrd=main coreos.live.rootfs_url=http://a/prod/streams/stable/builds/42.1/x86_64/rootfs.img coreos.inst.install_dev=/dev/sda coreos.inst.ignition_url=http://a/c.ign",
        initrds: &["http://a/prod/streams/stable/builds/42.1/x86_64/fedora-coreos-42.1-live-initramfs.x86_64.img"],
    },
    Shape {
        family: "Distributions",
        source: "flatcar.org/docs installing bare-metal booting-with-ipxe",
        script: include_str!("../../../../tests/fuzz/corpus/boot_script/flatcar"),
        files: &[],
        kernel: "http://a/amd64-usr/current/flatcar_production_pxe.vmlinuz",
        line: "initrd=flatcar_production_pxe_image.cpio.gz flatcar.first_boot=1 ignition.config.url=http://a/c.json",
        initrds: &["http://a/amd64-usr/current/flatcar_production_pxe_image.cpio.gz"],
    },
    Shape {
        family: "Distributions",
        source: "harvester/ipxe-examples general",
        script: include_str!("../../../../tests/fuzz/corpus/boot_script/harvester"),
        files: &[],
        kernel: "http://m/d/v1/vmlinuz-amd64",
        line: "ip=dhcp net.ifnames=1 rd.cos.disable rd.noverifyssl console=tty1 root=live:http://a/v1/rootfs.squashfs harvester.install.automatic=true harvester.install.config_url=http://a/c.yaml initrd=initrd-amd64",
        initrds: &["http://m/d/v1/initrd-amd64"],
    },
    Shape {
        family: "Dasharo Tools Suite",
        source: "Dasharo/meta-dts scripts/generate-ipxe-menu.sh",
        script: include_str!("../../../../tests/fuzz/corpus/boot_script/dasharo"),
        files: &[],
        kernel: "http://m/d/v2.1/bzImage-v2.1",
        line: "initrd=file_initrd console=ttyUSB0",
        initrds: &["http://m/d/v2.1/dts-base-image-v2.1.cpio.gz"],
    },
    Shape {
        family: "Clusters",
        source: "warewulf/warewulf etc/ipxe/default.ipxe",
        script: include_str!("../../../../tests/fuzz/corpus/boot_script/warewulf"),
        files: &[],
        kernel: "http://a:9873/provision/52:54:00:12:34:56?assetkey=&uuid=00112233-4455-6677-8899-aabbccddeeff&stage=kernel",
        line: "initrd=image initrd=system initrd=runtime wwid=52:54:00:12:34:56 quiet crashkernel=no",
        initrds: &[
            "http://a:9873/provision/52:54:00:12:34:56?assetkey=&uuid=00112233-4455-6677-8899-aabbccddeeff&stage=image&compress=gz",
            "http://a:9873/provision/52:54:00:12:34:56?assetkey=&uuid=00112233-4455-6677-8899-aabbccddeeff&stage=system&compress=gz",
            "http://a:9873/provision/52:54:00:12:34:56?assetkey=&uuid=00112233-4455-6677-8899-aabbccddeeff&stage=runtime&compress=gz",
        ],
    },
    Shape {
        family: "Clusters",
        source: "xcat2/xcat-core xCAT-server/lib/xcat/plugins/xnba.pm",
        script: include_str!("../../../../tests/fuzz/corpus/boot_script/xcat"),
        files: &[],
        kernel: "http://192.0.2.1:80/tftpboot/xcat/osimage/kernel",
        line: "imgurl=http://192.0.2.1:80/install/rootimg.tgz XCAT=192.0.2.1:3001 quiet BOOTIF=01-52-54-00-12-34-56",
        initrds: &["http://192.0.2.1:80/tftpboot/xcat/osimage/initrd.gz"],
    },
    Shape {
        family: "Clusters",
        source: "ltsp/ltsp ltsp/server/ipxe/ltsp.ipxe",
        script: include_str!("../../../../tests/fuzz/corpus/boot_script/ltsp"),
        files: &[],
        kernel: "http://m/ltsp/x86_64/vmlinuz",
        line: "initrd=ltsp.img initrd=initrd.img root=/dev/nfs nfsroot=192.0.2.1:/srv/ltsp ltsp.image=images/x86_64.img loop.max_part=9",
        initrds: &["http://m/ltsp/ltsp.img", "http://m/ltsp/x86_64/initrd.img"],
    },
    Shape {
        family: "Pixiecore, Razor, Digital Rebar",
        source: "danderson/netboot pixiecore/http.go",
        script: include_str!("../../../../tests/fuzz/corpus/boot_script/pixiecore"),
        files: &[],
        kernel: "http://a/_/file?name=k&type=kernel&mac=1",
        line: "initrd=initrd0 initrd=initrd1 quiet",
        initrds: &[
            "http://a/_/file?name=i0&type=initrd",
            "http://a/_/file?name=i1&type=initrd",
        ],
    },
    Shape {
        family: "Pixiecore, Razor, Digital Rebar",
        source: "puppetlabs/razor-server tasks/common/bootstrap.erb",
        script: include_str!("../../../../tests/fuzz/corpus/boot_script/razor"),
        files: &[(
            "http://a:8150/svc/boot?net0=52-54-00-12-34-56&dhcp_mac=52-54-00-12-34-56&serial=S%201&asset=&uuid=00112233-4455-6677-8899-aabbccddeeff",
            include_str!("../../../../tests/fuzz/corpus/boot_script/razor.2"),
        )],
        kernel: "http://a/linux",
        line: "task=mk",
        initrds: &["http://a/i.img"],
    },
    Shape {
        family: "Pixiecore, Razor, Digital Rebar",
        source: "digitalrebar/provision content default.ipxe",
        script: include_str!("../../../../tests/fuzz/corpus/boot_script/rebar"),
        files: &[],
        kernel: "http://a/linux",
        line: "root=live:/sledgehammer.iso BOOTIF=01-52-54-00-12-34-56",
        initrds: &["http://a/stage1.img"],
    },
];

/// Kernel, command line and initrds, an initrd with its place behind it.
type Started = (String, String, Vec<String>);

/// Settings that are empty leave blanks behind, which mean nothing to a kernel.
fn line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn started(plan: &Plan) -> Started {
    let initrd = |initrd: &super::super::Initrd| {
        let place = initrd.place.as_ref().map(|place| format!(" /{}", place.path));
        format!("{}{}", initrd.url, place.unwrap_or_default())
    };
    let initrds = plan.initrds.iter().map(initrd).collect();
    (plan.url.clone(), line(&plan.command_line), initrds)
}

/// `parseIpxe` and `parseURL` of u-root's `ipxe.go`.
fn three_words(script: &str) -> Started {
    let beside = |name: &str| match (name.contains("://"), name.starts_with('/')) {
        (true, _) => name.to_owned(),
        (false, true) => format!("http://m{name}"),
        (false, false) => format!("http://m/d/{name}"),
    };
    let (mut kernel, mut line, mut initrds) = (String::new(), String::new(), Vec::new());
    let lines = script.lines().filter(|_| script.starts_with("#!ipxe"));
    for words in lines.map(|line| line.split_whitespace().collect::<Vec<_>>()) {
        let word = words.first().map(|word| word.to_ascii_lowercase());
        match (word.as_deref(), &words[..]) {
            (Some("kernel"), [_, url, rest @ ..]) => {
                kernel = beside(url);
                if !rest.is_empty() {
                    line = rest.join(" ");
                }
            }
            (Some("initrd"), [_, urls, ..]) => initrds.extend(urls.split(',').map(beside)),
            (Some("boot"), _) => break,
            _ => {}
        }
    }
    (kernel, line, initrds)
}

#[test]
fn scripts_of_the_field_start_what_they_mean() {
    let mut right: BTreeMap<&str, [usize; 3]> = BTreeMap::new();
    for shape in SHAPES {
        let meant: Started = (
            shape.kernel.to_owned(),
            line(shape.line),
            shape.initrds.iter().map(|initrd| (*initrd).to_owned()).collect(),
        );
        let urls = [&[shape.kernel], shape.initrds].concat();
        let mut files = HashMap::from_iter(shape.files.iter().copied());
        files.extend(urls.iter().map(|url| (url.split(' ').next().unwrap(), "MZ what it is")));
        let ran = run_in(&files, shape.script, true);
        assert_eq!(started(plan(&ran)), meant, "{}", shape.script);
        let count = right.entry(shape.family).or_default();
        count[0] += 1;
        count[1] += 1;
        count[2] += usize::from(three_words(shape.script) == meant);
    }
    let sum = |at: usize| right.values().map(|count| count[at]).sum::<usize>();
    assert!(sum(0) >= 25, "{right:?}");
    let all = ("all", [sum(0), sum(1), sum(2)]);
    let readme = include_str!("../../../../README.md");
    for (family, [shapes, recon, words]) in right.iter().map(|(family, count)| (*family, *count)).chain([all]) {
        let row = format!("| {family} | {shapes} | {recon} | {words} |");
        assert!(readme.contains(&row), "README has not: {row}");
    }
}
