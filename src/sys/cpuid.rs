//! Questions to the processor itself.

/// How the hypervisor signs, twelve bytes (CPUID leaf 40000000h); nothing where this is no virtual machine.
#[cfg(target_arch = "x86_64")]
pub(crate) fn hypervisor_signature() -> Option<[u8; 12]> {
    use std::arch::x86_64::__cpuid;

    /// CPUID leaf 1, ECX bit 31: reserved for hypervisors to say that they are there.
    const HYPERVISOR: u32 = 1 << 31;
    if __cpuid(1).ecx & HYPERVISOR == 0 {
        return None;
    }
    let answer = __cpuid(0x4000_0000);
    let mut signature = [0u8; 12];
    for (to, from) in signature.chunks_exact_mut(4).zip([answer.ebx, answer.ecx, answer.edx]) {
        to.copy_from_slice(&from.to_le_bytes());
    }
    Some(signature)
}

/// EDX and ECX of CPUID leaf 1, and of the extended one, 80000001h, where there is that.
#[cfg(target_arch = "x86_64")]
pub(crate) fn features() -> Option<[u32; 4]> {
    use std::arch::x86_64::__cpuid;

    const EXTENDED: u32 = 0x8000_0001;
    let basic = __cpuid(1);
    let extended = (__cpuid(0x8000_0000).eax >= EXTENDED).then(|| __cpuid(EXTENDED));
    let [edx, ecx] = extended.map_or([0, 0], |extended| [extended.edx, extended.ecx]);
    Some([basic.edx, basic.ecx, edx, ecx])
}

#[cfg(not(target_arch = "x86_64"))]
pub(crate) fn features() -> Option<[u32; 4]> {
    None
}

/// Other processors have no such question.
#[cfg(not(target_arch = "x86_64"))]
pub fn hypervisor_signature() -> Option<[u8; 12]> {
    None
}
