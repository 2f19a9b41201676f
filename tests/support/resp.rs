//! Where a message of the Redis protocol ends: enough of RESP2 and RESP3 to count commands and replies on a connection.

/// The length of the first whole message in `bytes`; `None`: more is to come.
pub fn message_length(bytes: &[u8]) -> Option<usize> {
    let line = bytes.windows(2).position(|window| window == b"\r\n")? + 2;
    let number = || {
        let digits = std::str::from_utf8(&bytes[1..line - 2]).ok()?;
        digits.parse::<i64>().ok()
    };
    match *bytes.first()? {
        // Bulk strings, bulk errors, verbatim strings; -1 is the null of RESP2.
        b'$' | b'!' | b'=' => match usize::try_from(number().unwrap_or(-1)) {
            Ok(length) => Some(line + length + 2).filter(|end| *end <= bytes.len()),
            Err(_) => Some(line),
        },
        // Arrays, sets and pushes; maps and attributes have two members an entry.
        kind @ (b'*' | b'~' | b'>' | b'%' | b'|') => {
            let entries = number().unwrap_or(0).max(0);
            let members = match kind {
                b'%' | b'|' => entries * 2,
                _ => entries,
            };
            let mut end = line;
            for _ in 0..members {
                end += message_length(&bytes[end..])?;
            }
            // An attribute goes with the message behind it.
            if kind == b'|' {
                end += message_length(&bytes[end..])?;
            }
            Some(end)
        }
        _ => Some(line),
    }
}

/// The first two words of a command, in capitals: `EVALSHA 1f0c…`, `SENTINEL MASTERS`, `GET key`.
pub fn command_words(message: &[u8]) -> [String; 2] {
    let text = String::from_utf8_lossy(message);
    let mut words = text
        .split("\r\n")
        .skip(1)
        .filter(|part| !part.starts_with('$'));
    let mut next = || words.next().unwrap_or_default().to_ascii_uppercase();
    [next(), next()]
}

/// Whether what answers this command is a push.
pub fn is_subscription(message: &[u8]) -> bool {
    command_words(message)[0].ends_with("SUBSCRIBE")
}

/// Whether the server sends this of its own accord, in reply to nothing (RESP3).
pub fn is_push(message: &[u8]) -> bool {
    message.first() == Some(&b'>')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_ends_where_it_should_and_not_before() {
        let messages: [&[u8]; 9] = [
            b"+OK\r\n",
            b":12\r\n",
            b"$-1\r\n",
            b"$5\r\na\r\nbc\r\n",
            b"*2\r\n$3\r\nGET\r\n$1\r\nk\r\n",
            b"*-1\r\n",
            b"%1\r\n+a\r\n*1\r\n:1\r\n",
            b">2\r\n+message\r\n$2\r\nhi\r\n",
            b"|1\r\n+a\r\n+b\r\n:1\r\n",
        ];
        for message in messages {
            assert_eq!(message_length(message), Some(message.len()));
            assert_eq!(
                message_length(&[message, b"+more\r\n"].concat()),
                Some(message.len())
            );
            for end in 0..message.len() {
                assert_eq!(
                    message_length(&message[..end]),
                    None,
                    "{end} of {message:?}"
                );
            }
        }
        assert_eq!(command_words(messages[4]), ["GET", "K"]);
        assert!(is_push(messages[7]) && !is_push(messages[0]));
    }
}
