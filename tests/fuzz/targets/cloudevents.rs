#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| audittrail_fuzz::cloudevents(bytes));
