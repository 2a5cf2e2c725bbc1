#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    interviewd_fuzz::outside::export(bytes);
});
