//! The examples of RFC 7541, appendix C, and what is no header block.

use super::*;

fn bytes(hex: &str) -> Vec<u8> {
    let digits: Vec<u8> = hex.bytes().filter(u8::is_ascii_hexdigit).collect();
    digits.chunks(2).map(|two| u8::from_str_radix(std::str::from_utf8(two).unwrap(), 16).unwrap()).collect()
}

/// A block, its fields, and how much the table then holds.
type Row<'r> = (&'r str, &'r [(&'r str, &'r str)], usize);

/// Decodes blocks one after the other, and compares the text of their fields and how much the table then holds.
fn decodes(mut decoder: Decoder, rows: &[Row<'_>]) {
    for (hex, expected, table_bytes) in rows {
        let mut fields = Fields::new(1 << 16);
        decoder.decode(&bytes(hex), &mut fields).unwrap();
        let text: String = expected.iter().flat_map(|(name, value)| [*name, *value]).collect();
        assert_eq!(String::from_utf8_lossy(&fields.text), text, "{hex}");
        assert_eq!(decoder.bytes, *table_bytes, "{hex}");
    }
}

const WWW: (&str, &str) = (":authority", "www.example.com");
const GET: (&str, &str) = (":method", "GET");
const ROOT: (&str, &str) = (":path", "/");
const HTTP: (&str, &str) = (":scheme", "http");
const CUSTOM: (&str, &str) = ("custom-key", "custom-value");

#[test]
fn c_2_each_representation() {
    for (hex, field, table_bytes) in [
        ("400a 6375 7374 6f6d 2d6b 6579 0d63 7573 746f 6d2d 6865 6164 6572", ("custom-key", "custom-header"), 55),
        ("040c 2f73 616d 706c 652f 7061 7468", (":path", "/sample/path"), 0),
        ("1008 7061 7373 776f 7264 0673 6563 7265 74", ("password", "secret"), 0),
        ("82", GET, 0),
    ] {
        decodes(Decoder::default(), &[(hex, &[field], table_bytes)]);
    }
}

#[test]
fn c_3_and_c_4_requests() {
    let requests: [&[(&str, &str)]; 3] = [
        &[GET, HTTP, ROOT, WWW],
        &[GET, HTTP, ROOT, WWW, ("cache-control", "no-cache")],
        &[GET, (":scheme", "https"), (":path", "/index.html"), WWW, CUSTOM],
    ];
    let plain = [
        "8286 8441 0f77 7777 2e65 7861 6d70 6c65 2e63 6f6d",
        "8286 84be 5808 6e6f 2d63 6163 6865",
        "8287 85bf 400a 6375 7374 6f6d 2d6b 6579 0c63 7573 746f 6d2d 7661 6c75 65",
    ];
    let coded = [
        "8286 8441 8cf1 e3c2 e5f2 3a6b a0ab 90f4 ff",
        "8286 84be 5886 a8eb 1064 9cbf",
        "8287 85bf 4088 25a8 49e9 5ba9 7d7f 8925 a849 e95b b8e8 b4bf",
    ];
    for blocks in [plain, coded] {
        let rows = [(blocks[0], requests[0], 57), (blocks[1], requests[1], 110), (blocks[2], requests[2], 164)];
        decodes(Decoder::default(), &rows);
    }
}

#[test]
fn c_5_and_c_6_replies_with_a_small_table() {
    let date = ("date", "Mon, 21 Oct 2013 20:13:21 GMT");
    let location = ("location", "https://www.example.com");
    let private = ("cache-control", "private");
    let cookie = ("set-cookie", "foo=ASDJKHQKBZXOQWEOPIUAXQWEOIU; max-age=3600; version=1");
    let replies: [&[(&str, &str)]; 3] = [
        &[(":status", "302"), private, date, location],
        &[(":status", "307"), private, date, location],
        &[
            (":status", "200"),
            private,
            ("date", "Mon, 21 Oct 2013 20:13:22 GMT"),
            location,
            ("content-encoding", "gzip"),
            cookie,
        ],
    ];
    let plain = [
        "4803 3330 3258 0770 7269 7661 7465 611d 4d6f 6e2c 2032 3120 4f63 7420 3230 3133 2032 303a 3133 3a32 3120 474d \
         546e 1768 7474 7073 3a2f 2f77 7777 2e65 7861 6d70 6c65 2e63 6f6d",
        "4803 3330 37c1 c0bf",
        "88c1 611d 4d6f 6e2c 2032 3120 4f63 7420 3230 3133 2032 303a 3133 3a32 3220 474d 54c0 5a04 677a 6970 7738 666f \
         6f3d 4153 444a 4b48 514b 425a 584f 5157 454f 5049 5541 5851 5745 4f49 553b 206d 6178 2d61 6765 3d33 3630 303b \
         2076 6572 7369 6f6e 3d31",
    ];
    let coded = [
        "4882 6402 5885 aec3 771a 4b61 96d0 7abe 9410 54d4 44a8 2005 9504 0b81 66e0 82a6 2d1b ff6e 919d 29ad 1718 63c7 \
         8f0b 97c8 e9ae 82ae 43d3",
        "4883 640e ffc1 c0bf",
        "88c1 6196 d07a be94 1054 d444 a820 0595 040b 8166 e084 a62d 1bff c05a 839b d9ab 77ad 94e7 821d d7f2 e6c7 b335 \
         dfdf cd5b 3960 d5af 2708 7f36 72c1 ab27 0fb5 291f 9587 3160 65c0 03ed 4ee5 b106 3d50 07",
    ];
    for blocks in [plain, coded] {
        let small = Decoder { bytes_max: 256, ..Decoder::default() };
        decodes(small, &[(blocks[0], replies[0], 222), (blocks[1], replies[1], 222), (blocks[2], replies[2], 215)]);
    }
}

#[test]
fn what_is_no_header_block_is_refused() {
    let rows = [
        ("80", Malformed::Index),
        ("be", Malformed::Index),
        ("7e 0161", Malformed::Index),
        ("ff ff ff ff ff 01", Malformed::Number),
        ("7f ff ff ff ff ff", Malformed::Number),
        ("40", Malformed::Cut),
        ("40 0a 61", Malformed::Cut),
        ("41 8f f1", Malformed::Cut),
        ("ff", Malformed::Cut),
        ("41 82 ff ff", Malformed::Huffman),
        // A table of 4097 bytes, and a change of size behind a field.
        ("3f e2 1f", Malformed::TableSize),
        ("82 20", Malformed::TableSize),
    ];
    for (hex, expected) in rows {
        let decoded = Decoder::default().decode(&bytes(hex), &mut Fields::new(1 << 16));
        assert_eq!(decoded, Err(expected), "{hex}");
    }
}

#[test]
fn the_table_keeps_to_its_size() {
    let mut decoder = Decoder::default();
    let mut fields = Fields::new(1 << 16);
    for n in 0..1000_u32 {
        let block = [&[0x40, 1, b'a', 4][..], &n.to_be_bytes()].concat();
        decoder.decode(&block, &mut fields).unwrap();
        assert!(decoder.bytes <= TABLE_BYTES_MAX && decoder.table.len() <= TABLE_BYTES_MAX / 37);
    }
    // An entry that is larger than the table empties it; so does a size of nothing.
    let large = [&[0x40, 1, b'a', 0x7f, 0x81, 0x1f][..], &[b'x'; 4096]].concat();
    decoder.decode(&large, &mut fields).unwrap();
    assert_eq!((decoder.bytes, decoder.table.len()), (0, 0));
    decoder.decode(&bytes("4001 6101 62 20"), &mut fields).unwrap_err();
    decoder.decode(&bytes("20 4001 6101 62"), &mut fields).unwrap();
    assert_eq!((decoder.bytes, decoder.table.len()), (0, 0));
}

#[test]
fn fields_beyond_the_limit_are_counted_and_not_kept() {
    let mut decoder = Decoder::default();
    let mut fields = Fields::new(1000);
    // Four thousand bytes, named by one.
    let large = [&[0x40, 1, b'x', 0x7f, 0xa1, 0x1e][..], &[b'y'; 4000]].concat();
    decoder.decode(&large, &mut fields).unwrap();
    assert!(fields.are_too_many() && !fields.are_far_too_many() && fields.text.is_empty());
    fields.clear();
    decoder.decode(&[0xbe; 16_000], &mut fields).unwrap();
    assert!(fields.are_far_too_many() && fields.text.is_empty());
}
