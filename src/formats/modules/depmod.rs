//! The tables that depmod(8) makes of a kernel's modules, what a module says of itself, and modprobe.d(5). Pure; lines that are not
//! what the table has are left out, as libkmod does.

/// Endings of a module's file.
const ENDINGS: [&str; 4] = [".ko", ".ko.gz", ".ko.xz", ".ko.zst"];

/// A module's file and the files it needs, as `modules.dep` has them: each behind whatever needs it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dependencies<'a> {
    pub path: &'a str,
    pub needs: Vec<&'a str>,
}

/// The path of a module without the ending. `None` where it is no module.
pub fn stem(path: &str) -> Option<&str> {
    ENDINGS.iter().find_map(|ending| path.strip_suffix(ending))
}

/// The name that the kernel gives to a module in a file.
pub fn module_name(path: &str) -> Option<String> {
    let name = stem(path)?.rsplit('/').next()?;
    (!name.is_empty()).then(|| name.replace('-', "_"))
}

/// `modules.dep`.
pub fn dependencies(text: &str) -> impl Iterator<Item = Dependencies<'_>> {
    text.lines().filter_map(|line| {
        let (path, needs) = line.split_once(':')?;
        stem(path)?;
        let needs = needs.split_whitespace().collect();
        Some(Dependencies { path, needs })
    })
}

/// `modules.alias`: pattern and module. A pattern may hold blanks (`dmi*:`), the module's name does not.
pub fn aliases(text: &str) -> impl Iterator<Item = (&str, &str)> {
    text.lines()
        .filter_map(|line| line.strip_prefix("alias ")?.trim_end().rsplit_once(' '))
}

/// `modules.builtin`: names.
pub fn builtin(text: &str) -> impl Iterator<Item = String> + '_ {
    text.lines().filter_map(module_name)
}

/// `modules.softdep`, and such lines of modprobe.d: a module and what should be loaded before it.
pub fn soft_dependencies(text: &str) -> impl Iterator<Item = (&str, Vec<&str>)> {
    text.lines().filter_map(|line| {
        let mut words = line.split_whitespace();
        let name = words.next().filter(|word| *word == "softdep").and(words.next())?;
        let mut is_before = false;
        let mut before = Vec::new();
        for word in words {
            match word {
                "pre:" => is_before = true,
                "post:" => is_before = false,
                word if is_before => before.push(word),
                _ => {}
            }
        }
        Some((name, before))
    })
}

/// What a line of modprobe.d says that matters here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Setting<'a> {
    /// `install NAME /bin/false` or `/bin/true`, there or below /usr: it is never loaded.
    Never(&'a str),
    /// Not for the sake of a device.
    Blacklist(&'a str),
    /// Parameters.
    Options(&'a str, &'a str),
}

/// The settings of one file of modprobe.d.
pub fn settings(text: &str) -> impl Iterator<Item = Setting<'_>> {
    text.lines().filter_map(|line| {
        let (word, rest) = line.trim().split_once(char::is_whitespace)?;
        let (name, more) = rest.trim().split_once(char::is_whitespace).unwrap_or((rest.trim(), ""));
        match (word, more.trim()) {
            ("install", "/bin/false" | "/bin/true" | "/usr/bin/false" | "/usr/bin/true") => Some(Setting::Never(name)),
            ("blacklist", "") => Some(Setting::Blacklist(name)),
            ("options", text) if !text.is_empty() => Some(Setting::Options(name, text)),
            _ => None,
        }
    })
}

/// The values of one key in a module's section `.modinfo`: `key=value` and a NUL each.
pub fn modinfo<'a>(section: &'a [u8], key: &'a str) -> impl Iterator<Item = &'a str> {
    section.split(|byte| *byte == 0).filter_map(move |field| {
        let field = std::str::from_utf8(field).ok()?;
        field.strip_prefix(key)?.strip_prefix('=')
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn tables_are_read_as_depmod_writes_them() {
        let found: Vec<_> =
            dependencies("kernel/fs/a.ko.zst: kernel/lib/b.ko kernel/lib/c.ko\nkernel/x.ko:\nx: y\n").collect();
        assert_eq!(found.len(), 2);
        assert_eq!(found[0].path, "kernel/fs/a.ko.zst");
        assert_eq!(found[0].needs, ["kernel/lib/b.ko", "kernel/lib/c.ko"]);
        assert!(found[1].needs.is_empty());
        let text =
            "# Aliases extracted from modules themselves.\nalias acpi*:PNP0501:* a\nalias dmi*:svn*Some Maker*: b\n";
        assert_eq!(
            Vec::from_iter(aliases(text)),
            [("acpi*:PNP0501:*", "a"), ("dmi*:svn*Some Maker*:", "b")]
        );
        assert_eq!(Vec::from_iter(builtin("kernel/net/unix/af-unix.ko\n")), ["af_unix"]);
        assert_eq!(
            module_name("kernel/drivers/net/xen-netfront.ko.xz").as_deref(),
            Some("xen_netfront")
        );
        assert_eq!(module_name("a/.ko"), None);
    }

    #[test]
    fn soft_dependencies_are_those_before_the_module() {
        let text = "softdep r8169 pre: realtek\nsoftdep a post: b pre: c d post: e\nsoftdep cifs gcm\nsoft x\n";
        let expected = [("r8169", vec!["realtek"]), ("a", vec!["c", "d"]), ("cifs", vec![])];
        assert_eq!(Vec::from_iter(soft_dependencies(text)), expected);
    }

    #[test]
    fn settings_of_modprobe_are_read() {
        let text = "# install x /bin/false\ninstall md_mod /bin/false\n install\tefi_pstore  /bin/true\ninstall y /sbin/y\n\
                    install a /usr/bin/false\ninstall b /usr/bin/true\n\
                    blacklist efi_pstore\noptions lpfc lpfc_enable_fc4_type=1 a=2\noptions lpfc\n";
        assert_eq!(
            Vec::from_iter(settings(text)),
            [
                Setting::Never("md_mod"),
                Setting::Never("efi_pstore"),
                Setting::Never("a"),
                Setting::Never("b"),
                Setting::Blacklist("efi_pstore"),
                Setting::Options("lpfc", "lpfc_enable_fc4_type=1 a=2"),
            ]
        );
    }

    #[test]
    fn a_module_names_its_firmware() {
        let section = b"license=GPL\0firmware=a/b.fw\0firmware2=c\0firmware=d.fw\0";
        assert_eq!(Vec::from_iter(modinfo(section, "firmware")), ["a/b.fw", "d.fw"]);
    }

    proptest! {
        #[test]
        fn any_text_is_read(text in "(alias|softdep|install|options|pre:|[a-z/.:]{1,4}|ko|[ \n\t]){0,40}") {
            let _ = (dependencies(&text).count(), aliases(&text).count(), builtin(&text).count());
            let _ = (soft_dependencies(&text).count(), settings(&text).count());
            let _ = modinfo(text.as_bytes(), "a").count();
        }
    }
}
