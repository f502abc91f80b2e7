//! Who made an image: a signature over its manifest, which has the sums of all else. In OpenSSH's form (PROTOCOL.sshsig), so that a person
//! signs with the key that is there, and `ssh-keygen -Y` signs and verifies too. Pure.

use ring::signature::{ED25519, Ed25519KeyPair, UnparsedPublicKey};
use ssh_key::private::KeypairData;
use ssh_key::public::KeyData;
use ssh_key::{Algorithm, HashAlg, LineEnding, PrivateKey, Signature, SshSig};

use crate::formats::image::MANIFEST;

/// What such a signature is for; one for another purpose is none.
pub(crate) const NAMESPACE: &str = "recon-image";

/// Keys of which one has to have signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Trusted(Vec<[u8; 32]>);

impl Trusted {
    /// Public keys as ssh has them, a line each.
    ///
    /// # Errors
    /// A line is no Ed25519 key, or there is none; as a sentence.
    pub(crate) fn read(text: &str) -> Result<Self, String> {
        let lines = text
            .lines()
            .map(str::trim)
            .filter(|line| !line.is_empty() && !line.starts_with('#'));
        let key = |line: &str| {
            let key = ssh_key::PublicKey::from_openssh(line).map_err(|error| format!("a public key: {error}"))?;
            match key.key_data() {
                KeyData::Ed25519(key) => Ok(key.0),
                other => Err(format!(
                    "a public key is of {}, and only ssh-ed25519 is taken",
                    other.algorithm()
                )),
            }
        };
        let keys: Vec<_> = lines.map(key).collect::<Result<_, String>>()?;
        match keys.is_empty() {
            true => Err("there is no public key in it".to_owned()),
            false => Ok(Self(keys)),
        }
    }

    /// # Errors
    /// None of the keys signed this manifest; as a sentence.
    pub(crate) fn verify(&self, manifest: &[u8], signature: &[u8]) -> Result<(), String> {
        let signature =
            SshSig::from_pem(signature).map_err(|error| format!("its signature cannot be read: {error}"))?;
        let KeyData::Ed25519(key) = signature.public_key() else {
            return Err("it is signed by a key of another kind than ssh-ed25519".to_owned());
        };
        if !self.0.contains(&key.0) {
            return Err("it is signed by a key that is not trusted here".to_owned());
        }
        if signature.namespace() != NAMESPACE || signature.version() != SshSig::VERSION {
            return Err(format!(
                "its signature is for {:?}, and not for {NAMESPACE:?}",
                signature.namespace()
            ));
        }
        let signed =
            SshSig::signed_data(NAMESPACE, signature.hash_alg(), manifest).map_err(|error| error.to_string())?;
        let is_its = UnparsedPublicKey::new(&ED25519, key.0).verify(&signed, signature.signature_bytes());
        is_its.map_err(|_| format!("its signature is of another {MANIFEST}"))
    }
}

/// Whether a signature is of this manifest, by whatever key it names.
///
/// # Errors
/// It is not; as a sentence.
pub(crate) fn is_of(manifest: &[u8], signature: &[u8]) -> Result<(), String> {
    let own = SshSig::from_pem(signature).map_err(|error| format!("it cannot be read: {error}"))?;
    match own.public_key() {
        KeyData::Ed25519(key) => Trusted(vec![key.0]).verify(manifest, signature),
        other => Err(format!(
            "it is by a key of {}, and only ssh-ed25519 is taken",
            other.algorithm()
        )),
    }
}

/// Signs a manifest with a private key as `ssh-keygen -t ed25519` makes it.
///
/// # Errors
/// It is no such key, or has a passphrase; as a sentence.
pub(crate) fn sign(key: &[u8], manifest: &[u8]) -> Result<String, String> {
    let told = |error: ssh_key::Error| error.to_string();
    let key = PrivateKey::from_openssh(key).map_err(|error| format!("it is no private key of OpenSSH's: {error}"))?;
    if key.is_encrypted() {
        return Err(format!(
            "it has a passphrase: sign with ssh-keygen -Y sign -n {NAMESPACE} -f KEY {MANIFEST}, which asks for it and makes the same"
        ));
    }
    let KeypairData::Ed25519(pair) = key.key_data() else {
        return Err(format!("it is of {}, and only ssh-ed25519 is taken", key.algorithm()));
    };
    let ring = Ed25519KeyPair::from_seed_and_public_key(pair.private.as_ref(), &pair.public.0)
        .map_err(|error| error.to_string())?;
    let signed = SshSig::signed_data(NAMESPACE, HashAlg::Sha512, manifest).map_err(told)?;
    let signature = Signature::new(Algorithm::Ed25519, ring.sign(&signed).as_ref()).map_err(told)?;
    let signature = SshSig::new(KeyData::Ed25519(pair.public), NAMESPACE, HashAlg::Sha512, signature).map_err(told)?;
    signature.to_pem(LineEnding::LF).map_err(told)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;
    use std::process::{Command, Stdio};

    use super::*;
    use proptest::prelude::*;

    const MANIFEST_TEXT: &[u8] = b"{\"format\": 1}\n";

    fn keygen(folder: &Path, words: &[&str], input: &[u8]) -> bool {
        let mut child = Command::new("ssh-keygen")
            .args(words)
            .current_dir(folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        std::io::Write::write_all(&mut child.stdin.take().unwrap(), input).unwrap();
        child.wait().unwrap().success()
    }

    /// Keys of OpenSSH's making: the private one, and the line of the public one.
    fn key(folder: &Path, name: &str, kind: &str, passphrase: &str) -> (Vec<u8>, String) {
        assert!(keygen(
            folder,
            &["-q", "-t", kind, "-N", passphrase, "-C", "me", "-f", name],
            b""
        ));
        let public = fs::read_to_string(folder.join(format!("{name}.pub"))).unwrap();
        (fs::read(folder.join(name)).unwrap(), public)
    }

    #[test]
    fn openssh_takes_our_signature_and_we_take_openssh_s() {
        let folder = tempfile::tempdir().unwrap();
        let (private, public) = key(folder.path(), "key", "ed25519", "");
        let trusted = Trusted::read(&format!("# ours\n\n{public}")).unwrap();
        let ours = sign(&private, MANIFEST_TEXT).unwrap();
        trusted.verify(MANIFEST_TEXT, ours.as_bytes()).unwrap();
        is_of(MANIFEST_TEXT, ours.as_bytes()).unwrap();
        assert!(is_of(b"other", ours.as_bytes()).is_err() && is_of(MANIFEST_TEXT, b"").is_err());
        fs::write(folder.path().join("ours.sig"), &ours).unwrap();
        fs::write(folder.path().join("signers"), format!("me {public}")).unwrap();
        let verify = [
            "-Y", "verify", "-f", "signers", "-I", "me", "-n", NAMESPACE, "-s", "ours.sig",
        ];
        assert!(keygen(folder.path(), &verify, MANIFEST_TEXT));
        assert!(!keygen(folder.path(), &verify, b"other"));
        fs::write(folder.path().join("m"), MANIFEST_TEXT).unwrap();
        for hash in ["sha256", "sha512"] {
            let hash = format!("hashalg={hash}");
            let words = ["-Y", "sign", "-n", NAMESPACE, "-O", &hash, "-f", "key", "m"];
            assert!(keygen(folder.path(), &words, b""));
            let theirs = folder.path().join("m.sig");
            trusted.verify(MANIFEST_TEXT, &fs::read(&theirs).unwrap()).unwrap();
            fs::remove_file(theirs).unwrap();
        }
    }

    #[test]
    fn anything_else_is_refused_and_says_why() {
        let folder = tempfile::tempdir().unwrap();
        let (private, public) = key(folder.path(), "key", "ed25519", "");
        let (other, other_public) = key(folder.path(), "other", "ed25519", "");
        let (rsa, rsa_public) = key(folder.path(), "rsa", "rsa", "");
        let (secret, _) = key(folder.path(), "secret", "ed25519", "word");
        let trusted = Trusted::read(&public).unwrap();
        let signed = sign(&private, MANIFEST_TEXT).unwrap();
        fs::write(folder.path().join("m"), MANIFEST_TEXT).unwrap();
        assert!(keygen(
            folder.path(),
            &["-Y", "sign", "-n", "file", "-f", "key", "m"],
            b""
        ));
        let for_files = fs::read_to_string(folder.path().join("m.sig")).unwrap();
        for (manifest, signature, why) in [
            (&b"{\"format\": 2}\n"[..], &signed, "another image.json"),
            (MANIFEST_TEXT, &sign(&other, MANIFEST_TEXT).unwrap(), "not trusted"),
            (MANIFEST_TEXT, &for_files, "for \"file\""),
            (MANIFEST_TEXT, &signed[..100].to_owned(), "cannot be read"),
            (MANIFEST_TEXT, &String::new(), "cannot be read"),
        ] {
            let said = trusted.verify(manifest, signature.as_bytes()).unwrap_err();
            assert!(said.contains(why), "{said}");
        }
        let both = Trusted::read(&format!("{public}{other_public}")).unwrap();
        both.verify(MANIFEST_TEXT, sign(&other, MANIFEST_TEXT).unwrap().as_bytes())
            .unwrap();
        for (text, why) in [
            ("", "no public key"),
            ("# x\n", "no public key"),
            ("x y", "a public key"),
            (&*rsa_public, "only ssh-ed25519"),
        ] {
            let said = Trusted::read(text).unwrap_err();
            assert!(said.contains(why), "{said}");
        }
        for (key, why) in [
            (&secret, "has a passphrase"),
            (&rsa, "only ssh-ed25519"),
            (&b"x".to_vec(), "no private key"),
        ] {
            let said = sign(key, MANIFEST_TEXT).unwrap_err();
            assert!(said.contains(why), "{said}");
        }
    }

    proptest! {
        #[test]
        fn any_signature_is_survived(bytes in proptest::collection::vec(any::<u8>(), 0..300), text in "[A-Za-z0-9+/=\n]{0,400}") {
            let trusted = Trusted(vec![[7; 32]]);
            prop_assert!(trusted.verify(b"x", &bytes).is_err());
            let pem = format!("-----BEGIN SSH SIGNATURE-----\n{text}\n-----END SSH SIGNATURE-----\n");
            prop_assert!(trusted.verify(b"x", pem.as_bytes()).is_err());
        }
    }
}
