//! Where an HTTP answer ends: shared by the benches that speak to servers.
#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed benchmark")]

/// Where the body of the answer that `received` begins with begins and ends, once its head is there.
pub(crate) fn frame(received: &[u8]) -> Option<(usize, usize)> {
    let head = received.windows(4).position(|four| four == b"\r\n\r\n")? + 4;
    let length = std::str::from_utf8(&received[..head]).unwrap().lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>().unwrap())
    });
    Some((head, head + length.expect("answers have a content-length")))
}
