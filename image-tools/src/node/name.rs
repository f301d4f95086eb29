//! Names of a node that nobody named.

/// The name a node has without one in its file: `bramble-` and four digits. Of a network card's
/// own address the last four, so that they can be read off a sticker and stay through flashing
/// anew; of a machine whose cards have none (virtual machines share addresses), of its random id.
pub fn default_hostname(card: Option<[u8; 6]>, machine_id: &str) -> String {
    let own = card.filter(|address| is_makers(*address));
    let digits = match own {
        Some([.., high, low]) => format!("{high:02x}{low:02x}"),
        None => machine_id.chars().filter(char::is_ascii_hexdigit).take(4).collect(),
    };
    format!("bramble-{digits:0>4}")
}

/// Whether a maker gave this address to one card alone.
fn is_makers(address: [u8; 6]) -> bool {
    const LOCAL_OR_GROUP: u8 = 0b11;
    address != [0; 6] && address[0] & LOCAL_OR_GROUP == 0
}

/// Read an address as sysfs writes it: `b8:27:eb:00:00:01`.
pub fn card_address(text: &str) -> Option<[u8; 6]> {
    let mut address = [0; 6];
    let mut parts = text.trim().split(':');
    for byte in &mut address {
        *byte = parts.next().and_then(|part| u8::from_str_radix(part, 16).ok())?;
    }
    parts.next().is_none().then_some(address)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_come_from_cards_and_else_from_the_id() {
        for (card, name) in [
            (Some("b8:27:eb:01:3f:a2\n"), "bramble-3fa2"),
            (Some("52:54:00:12:34:56"), "bramble-0123"),
            (Some("00:00:00:00:00:00"), "bramble-0123"),
            (Some("b8:27:eb"), "bramble-0123"),
            (None, "bramble-0123"),
        ] {
            assert_eq!(default_hostname(card.and_then(card_address), "0123456789abcdef"), name);
        }
        assert_eq!(default_hostname(None, ""), "bramble-0000");
    }
}
