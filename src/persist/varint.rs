//! Numbers and slices in bytes that come from a file: every length is checked, and nothing is
//! allocated.

/// Appends a number, seven bits a byte, the lowest first.
#[inline]
pub(crate) fn put_number(bytes: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        bytes.push(number as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
}

/// How many bytes [`put_number`] appends at most.
pub(crate) const LONGEST: usize = 10;

/// Takes a number from the front, `None` if it is cut off or has more than 64 bits.
#[inline]
pub(crate) fn take_number(rest: &mut &[u8]) -> Option<u64> {
    let (&first, tail) = rest.split_first()?;
    if first < 0x80 {
        *rest = tail;
        return Some(u64::from(first));
    }
    take_long_number(rest)
}

fn take_long_number(rest: &mut &[u8]) -> Option<u64> {
    let mut number = 0;
    for (at, &byte) in rest.iter().take(LONGEST).enumerate() {
        let bits = u64::from(byte & 0x7F);
        if at == LONGEST - 1 && bits > 1 {
            return None;
        }
        number |= bits << (7 * at);
        if byte < 0x80 {
            *rest = &rest[at + 1..];
            return Some(number);
        }
    }
    None
}

/// Takes bytes from the front, `None` if there are fewer.
#[inline]
pub(crate) fn take_bytes<'a>(rest: &mut &'a [u8], length: u64) -> Option<&'a [u8]> {
    let length = usize::try_from(length).ok()?;
    let (taken, tail) = rest.split_at_checked(length)?;
    *rest = tail;
    Some(taken)
}

/// Takes `N` bytes from the front.
#[inline]
pub(crate) fn take_array<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (taken, tail) = rest.split_first_chunk()?;
    *rest = tail;
    Some(*taken)
}

pub(crate) fn take_u64(rest: &mut &[u8]) -> Option<u64> {
    take_array(rest).map(u64::from_le_bytes)
}

pub(crate) fn take_u32(rest: &mut &[u8]) -> Option<u32> {
    take_array(rest).map(u32::from_le_bytes)
}

/// The highest sequence number, generation, or version of a manifest that a file may name: nobody
/// gets there, and what comes after it is still a number.
pub(crate) const HIGHEST: u64 = u64::MAX >> 1;

/// Takes a sequence number or a generation, if it is possible.
pub(crate) fn take_seq(rest: &mut &[u8]) -> Option<u64> {
    take_number(rest).filter(|number| *number <= HIGHEST)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_every_length_come_back() {
        let edges = (0..64).flat_map(|bit| [(1u64 << bit) - 1, 1 << bit]);
        for number in edges.chain([u64::MAX]) {
            let mut bytes = Vec::new();
            put_number(&mut bytes, number);
            let mut rest = &bytes[..];
            assert_eq!(take_number(&mut rest), Some(number));
            assert!(rest.is_empty());
            assert_eq!(take_number(&mut &bytes[..bytes.len() - 1]), None);
        }
    }

    #[test]
    fn more_than_64_bits_are_no_number() {
        assert_eq!(take_number(&mut &[0xFF; 20][..]), None);
        let mut bytes = [0xFF; 10];
        bytes[9] = 2;
        assert_eq!(take_number(&mut &bytes[..]), None);
    }

    #[test]
    fn fewer_bytes_than_asked_for_are_none() {
        assert_eq!(take_bytes(&mut &[1, 2][..], 3), None);
        assert_eq!(take_bytes(&mut &[1, 2][..], u64::MAX), None);
        assert_eq!(take_bytes(&mut &[1, 2][..], 2), Some(&[1, 2][..]));
    }
}
