//! What a machine says of itself besides its ports, by which a rule may know it. Nothing proves it. Pure.

/// As SMBIOS has them (DSP0134 §7.2, System Information).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Marks<'a> {
    pub uuid: Option<&'a str>,
    pub serial: Option<&'a str>,
}

impl<'a> From<Option<&'a str>> for Marks<'a> {
    fn from(uuid: Option<&'a str>) -> Self {
        Marks { uuid, serial: None }
    }
}

impl Marks<'_> {
    /// Whether a rule for a machine with these marks is one for this machine. Nobody tells UUIDs apart by the size of their letters, and people
    /// read serial numbers from labels.
    pub(super) fn are_of(&self, uuid: Option<&str>, serial: Option<&str>) -> bool {
        let same = |rule: Option<&str>, own: Option<&str>| {
            rule.zip(own)
                .is_some_and(|(rule, own)| rule.eq_ignore_ascii_case(own.trim()))
        };
        same(uuid, self.uuid) || same(serial, self.serial)
    }
}
