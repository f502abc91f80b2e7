//! The proof that a workload is the site's own, for a machine that has the site's key: whoever stands between it and the master
//! can hand it no other one. Pure.

use crate::config::SiteKey;
use crate::config::site_key::Nonce;
use crate::model::api::WorkloadProof;

const LABEL: &str = "recon workload 1";

/// Answers the question `nonce` about a workload with this digest.
pub fn prove(key: &SiteKey, nonce: &Nonce, sha256: &[u8; 32]) -> WorkloadProof {
    WorkloadProof {
        proof: format!("{:032x}", u128::from_be_bytes(key.tag(LABEL, &[nonce, sha256]))),
    }
}

/// Whether the answer to `nonce` covers a workload with this digest.
pub fn is_proven(key: &SiteKey, nonce: &Nonce, sha256: &[u8; 32], said: &WorkloadProof) -> bool {
    from_hex(&said.proof).is_some_and(|tag| key.proves(LABEL, &[nonce, sha256], &tag))
}

/// 32 hex digits and nothing else.
pub(super) fn from_hex(text: &str) -> Option<[u8; 16]> {
    let digits = text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    let number = u128::from_str_radix(text, 16).ok().filter(|_| digits)?;
    Some(number.to_be_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proof_covers_one_workload_and_one_question() {
        let (key, other) = (SiteKey::new([1; 32]), SiteKey::new([2; 32]));
        let said = prove(&key, &[3; 16], &[4; 32]);
        assert!(is_proven(&key, &[3; 16], &[4; 32], &said));
        assert!(!is_proven(&other, &[3; 16], &[4; 32], &said));
        assert!(!is_proven(&key, &[4; 16], &[4; 32], &said), "a replay");
        assert!(!is_proven(&key, &[3; 16], &[5; 32], &said), "another workload");
        for odd in ["", "00", &format!("+{}", &said.proof[1..]), &said.proof[1..]] {
            let said = WorkloadProof { proof: odd.to_owned() };
            assert!(!is_proven(&key, &[3; 16], &[4; 32], &said), "{odd:?}");
        }
    }
}
