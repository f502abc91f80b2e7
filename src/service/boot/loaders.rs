//! Where the network boot programs of this system are.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use crate::service::boot::programs::{self, LOADERS};

/// Network boot programs found on this system, by the name clients ask for.
#[derive(Debug, Clone, Default)]
pub struct Loaders {
    found: HashMap<&'static str, PathBuf>,
}

impl Loaders {
    /// Looks through `folders` in order; the first file that fits a name is taken.
    pub fn find(folders: &[PathBuf]) -> Self {
        let mut found = HashMap::new();
        for (name, files) in LOADERS {
            let mut candidates = folders
                .iter()
                .flat_map(|folder| files.iter().map(|file| folder.join(file)));
            if let Some(path) = candidates.find(|path| path.is_file()) {
                found.insert(name, path);
            }
        }
        Loaders { found }
    }

    pub fn path(&self, name: &str) -> Option<&Path> {
        self.found.get(name).map(PathBuf::as_path)
    }

    /// True for a loader that a machine can start from: it is here, and so is what it loads by itself.
    pub fn can_boot(&self, name: &str) -> bool {
        let here = |name: &str| self.path(name).is_some();
        here(name) && programs::needs(name).iter().all(|name| here(name))
    }

    /// Names that no folder had.
    pub fn missing(&self) -> Vec<&'static str> {
        let names = LOADERS.iter().map(|(name, _)| *name);
        names.filter(|name| !self.found.contains_key(name)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// openSUSE's names: `ipxe-bootimgs` in /usr/share/ipxe, `shim` and `grub2-x86_64-efi` in /usr/share/efi/x86_64.
    #[test]
    fn files_by_the_names_of_opensuse_are_found() {
        let folder = tempfile::tempdir().unwrap();
        let names = ["undionly.kpxe", "ipxe-x86_64.efi", "snp-arm64.efi", "shim.efi"];
        for name in names {
            std::fs::write(folder.path().join(name), name).unwrap();
        }
        let folders = [folder.path().to_owned()];
        let file = |loaders: &Loaders, name: &str| {
            let path = loaders.path(name)?;
            Some(path.file_name().unwrap().to_str().unwrap().to_owned())
        };
        let old = Loaders::find(&folders);
        assert_eq!(file(&old, "snponly.efi"), None, "Leap 15.4 has none");
        assert_eq!(file(&old, "ipxe.efi").as_deref(), Some("ipxe-x86_64.efi"));
        assert_eq!(file(&old, "snponly-arm64.efi").as_deref(), Some("snp-arm64.efi"));
        assert!(old.can_boot("undionly.kpxe") && !old.can_boot("snponly.efi"));
        assert!(!old.can_boot("shimx64.efi"), "shim alone loads nothing");
        for name in ["snp-x86_64.efi", "grub.efi"] {
            std::fs::write(folder.path().join(name), name).unwrap();
        }
        let new = Loaders::find(&folders);
        assert_eq!(file(&new, "snponly.efi").as_deref(), Some("snp-x86_64.efi"));
        assert_eq!(file(&new, "grubx64.efi").as_deref(), Some("grub.efi"));
        assert!(new.can_boot("shimx64.efi"));
        // The real thing is taken where both are.
        std::fs::write(folder.path().join("snponly.efi"), "").unwrap();
        assert_eq!(
            file(&Loaders::find(&folders), "snponly.efi").as_deref(),
            Some("snponly.efi")
        );
    }
}
