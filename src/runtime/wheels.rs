//! The pinned packages that ONNX Runtime and the CUDA libraries are taken from, and how a person fetches them.

use std::env::consts::ARCH;

use super::RuntimeError;

/// The version that everything here was measured with.
pub const ONNX_RUNTIME_VERSION: &str = "1.31.1";
/// Name of ONNX Runtime's library inside its wheel and in the cache.
pub(super) const LIBRARY_FILE: &str = "libonnxruntime.so.1.31.1";

/// Which build of ONNX Runtime.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Variant {
    Cpu,
    /// For NVIDIA cards, with the CUDA libraries that it needs: some 780 MB to download.
    Cuda,
}

impl Variant {
    /// The name of its folder in the cache.
    pub fn name(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::Cuda => "cuda",
        }
    }

    /// The command line that provisions it.
    pub fn setup_command(self) -> &'static str {
        match self {
            Self::Cpu => "interviewd setup",
            Self::Cuda => "interviewd setup --cuda",
        }
    }
}

/// A file of the Python package index, pinned by its hash, and the libraries to take out of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Wheel {
    pub package: &'static str,
    pub version: &'static str,
    /// Platform tag by which pip finds exactly this file.
    pub platform: &'static str,
    pub sha256: &'static str,
    pub megabytes: u32,
    /// Paths inside the wheel.
    pub libraries: &'static [&'static str],
}

const CPU_LIBRARIES: &[&str] = &[
    "onnxruntime/capi/libonnxruntime.so.1.31.1",
    "onnxruntime/capi/libonnxruntime_providers_shared.so",
];

const CPU_X86_64: Wheel = Wheel {
    package: "onnxruntime",
    version: ONNX_RUNTIME_VERSION,
    platform: "manylinux_2_28_x86_64",
    sha256: "1f3dea47f2f0e5117c2404cea7d21fd253ae7836a3bf167a501cdfbb2600d536",
    megabytes: 24,
    libraries: CPU_LIBRARIES,
};

const CPU_AARCH64: Wheel = Wheel {
    platform: "manylinux_2_28_aarch64",
    sha256: "0b9a492176886992e0e875f06bc0367e333f5fff11711a2d642e18b02f3009cc",
    megabytes: 21,
    ..CPU_X86_64
};

/// The CUDA provider needs cudart, cublas, cublasLt and curand of CUDA 13; the driver brings libcuda itself.
const CUDA_X86_64: [Wheel; 4] = [
    Wheel {
        package: "onnxruntime-gpu",
        version: ONNX_RUNTIME_VERSION,
        platform: "manylinux_2_28_x86_64",
        sha256: "05d548956197b9d01f59b625de740e0d6be3593f874e241a12dc0362650ecdf7",
        megabytes: 256,
        libraries: &[
            "onnxruntime/capi/libonnxruntime.so.1.31.1",
            "onnxruntime/capi/libonnxruntime_providers_shared.so",
            "onnxruntime/capi/libonnxruntime_providers_cuda.so",
        ],
    },
    Wheel {
        package: "nvidia-cuda-runtime",
        version: "13.5.37",
        platform: "manylinux2014_x86_64",
        sha256: "df2b79a8852f10d1fef8c848489c49eebb5754051bf870202a862831412b179d",
        megabytes: 3,
        libraries: &["nvidia/cu13/lib/libcudart.so.13"],
    },
    Wheel {
        package: "nvidia-cublas",
        version: "13.10.0.20",
        platform: "manylinux1_x86_64",
        sha256: "dcc6d63884c53d07e267ce7e6feac17b2538cebaafec5db865736c3e28e4dc84",
        megabytes: 444,
        libraries: &["nvidia/cu13/lib/libcublas.so.13", "nvidia/cu13/lib/libcublasLt.so.13"],
    },
    Wheel {
        package: "nvidia-curand",
        version: "10.4.5.25",
        platform: "manylinux_2_27_x86_64",
        sha256: "22bb226a857e5888fe6b54ae465fc4371296bcff13a35f79e19691bcf454f529",
        megabytes: 77,
        libraries: &["nvidia/cu13/lib/libcurand.so.10"],
    },
];

impl Wheel {
    /// Arguments of `python3` that download it, and nothing it depends on, into `folder`.
    pub fn download_arguments(&self, folder: &str) -> Vec<String> {
        let requirement = format!("{}=={}", self.package, self.version);
        let fixed = "-m pip download --no-deps --only-binary=:all: --disable-pip-version-check --no-input --implementation cp --python-version 3.12";
        let mut arguments: Vec<String> = fixed.split(' ').map(str::to_owned).collect();
        arguments.extend(["--platform", self.platform, "--dest", folder, &requirement].map(str::to_owned));
        arguments
    }
}

/// What a variant consists of on this machine.
pub(super) fn wheels(variant: Variant) -> Result<&'static [Wheel], RuntimeError> {
    match (variant, ARCH) {
        (Variant::Cpu, "x86_64") => Ok(&[CPU_X86_64]),
        (Variant::Cpu, "aarch64") => Ok(&[CPU_AARCH64]),
        (Variant::Cuda, "x86_64") => Ok(&CUDA_X86_64),
        (_, machine) => Err(RuntimeError::Unsupported {
            variant: variant.name(),
            machine,
        }),
    }
}

/// What a person does where `setup` cannot: the commands, where the files go, and the key that points at them.
pub(super) fn by_hand(variant: Variant) -> String {
    let Ok(wheels) = wheels(variant) else {
        return format!(
            "build ONNX Runtime {ONNX_RUNTIME_VERSION} for this machine and set runtime.library to its path"
        );
    };
    format!(
        "`{}` on any machine with a network; then, in one folder, `unzip -j '<wheel>' '*.so*'` for each file in wheels/, \
         and set runtime.library to <that folder>/{LIBRARY_FILE}",
        downloads(wheels).join(" && ")
    )
}

/// The same as lines, for whoever copies them from a terminal.
pub fn by_hand_lines(variant: Variant) -> Vec<String> {
    let Ok(wheels) = wheels(variant) else {
        return vec![by_hand(variant)];
    };
    let mut lines = vec!["on any machine with a network:".to_owned()];
    lines.extend(downloads(wheels).into_iter().map(|command| format!("  {command}")));
    lines.push("then, in one folder, for each file in wheels/:".to_owned());
    lines.push("  unzip -j '<wheel>' '*.so*'".to_owned());
    lines.push(format!("and set runtime.library to <that folder>/{LIBRARY_FILE}"));
    lines
}

fn downloads(wheels: &[Wheel]) -> Vec<String> {
    let command = |wheel: &Wheel| format!("python3 {}", wheel.download_arguments("wheels").join(" "));
    wheels.iter().map(command).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_pinned_wheel_has_a_whole_hash_and_libraries() {
        for wheel in CUDA_X86_64.iter().chain([&CPU_X86_64, &CPU_AARCH64]) {
            assert!(
                wheel.sha256.len() == 64 && wheel.sha256.bytes().all(|b| b.is_ascii_hexdigit()),
                "{wheel:?}"
            );
            assert!(!wheel.libraries.is_empty());
        }
        assert!(CPU_X86_64.libraries[0].ends_with(LIBRARY_FILE));
        assert_ne!(CPU_X86_64.sha256, CPU_AARCH64.sha256);
    }

    #[test]
    fn the_way_by_hand_is_a_command_that_can_be_pasted() {
        let text = by_hand(Variant::Cpu);
        assert!(
            text.contains("python3 -m pip download") && text.contains("onnxruntime==1.31.1"),
            "{text}"
        );
        assert!(text.contains("runtime.library"), "{text}");
        let lines = by_hand_lines(Variant::Cpu);
        assert!(
            lines.iter().any(|line| line.starts_with("  python3 -m pip download")),
            "{lines:?}"
        );
        assert!(lines.iter().all(|line| !line.contains("&&")), "{lines:?}");
    }
}
