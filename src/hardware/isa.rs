//! The processor's instruction set in a few words: it decides which kernels ONNX Runtime picks, and so the last bits of what a model computes.

/// For a report's provenance, for example `x86_64 avx512_vnni`: the architecture and the best of the extensions that matrix kernels are written for.
pub fn instruction_set() -> String {
    match best_extension() {
        Some(extension) => format!("{} {extension}", std::env::consts::ARCH),
        None => std::env::consts::ARCH.to_owned(),
    }
}

#[cfg(target_arch = "x86_64")]
fn best_extension() -> Option<&'static str> {
    use std::arch::is_x86_feature_detected;
    if is_x86_feature_detected!("avx512vnni") {
        Some("avx512_vnni")
    } else if is_x86_feature_detected!("avx512bw") {
        Some("avx512")
    } else if is_x86_feature_detected!("avxvnni") {
        Some("avx_vnni")
    } else if is_x86_feature_detected!("avx2") {
        Some("avx2")
    } else if is_x86_feature_detected!("avx") {
        Some("avx")
    } else {
        None
    }
}

#[cfg(target_arch = "aarch64")]
fn best_extension() -> Option<&'static str> {
    use std::arch::is_aarch64_feature_detected;
    if is_aarch64_feature_detected!("i8mm") {
        Some("i8mm")
    } else if is_aarch64_feature_detected!("dotprod") {
        Some("dotprod")
    } else {
        None
    }
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
fn best_extension() -> Option<&'static str> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_names_the_architecture_first_and_never_changes() {
        let text = instruction_set();
        assert!(text.starts_with(std::env::consts::ARCH), "{text}");
        assert!(text.split(' ').count() <= 2, "{text}");
        assert_eq!(text, instruction_set());
    }
}
