"""URLs and addresses that no image fetcher may visit."""

from __future__ import annotations

_REFUSED = """
    file:///etc/passwd|gopher://example.com/|ftp://example.com/a.jpg|data:image/png;base64,AAAA|javascript:alert(1)
    //example.com/a.jpg|/a.jpg|example.com/a.jpg|http:example.com|http:/example.com|http:///a.jpg|http://
    http://user@example.com/a.jpg|http://user:pw@example.com/|http://example.com@127.0.0.1/|http://a\\@b.com/
    http://example.com\\.evil.com/|http:\\\\example.com/|http://example.com/a\\b|http://example.com:22/|http://example.com:6379/
    http://example.com:0/|http://example.com:99999/|http://example.com:/a|http://example.com:8o/|http://2130706433/
    http://0x7f000001/|http://0x7f.0.0.1/|http://017700000001/|http://0177.0.0.1/|http://127.1/|http://127.0.1/
    http://127.0.0.0x1/|http://256.0.0.1/|http://1.2.3.4.5/|http://example.com./|http://127.0.0.1./|http://.com/
    http://a..b/|http://-a.com/|http://a-.com/|http://[::1/|http://[::1]x/|http://[fe80::1%25eth0]/|http://[1.2.3.4]/
    http://\u2460\u2461\u2466.0.0.1/|http://\uff11\uff12\uff17.0.0.1/|http://127\u30020\u30020\u30021/|http://ex\u00e4mple.com/
    http://\u017f.com/|http://example.com\u200b/|http://example\u2024com/|http://exa mple.com/|http://%31%32%37.0.0.1/
    http://example.com%00.evil.com/|http://example.com%2f@evil.com/|http://*.example.com/|http://exam!ple.com/
"""
REFUSED_URLS = [form.strip() for form in "|".join(_REFUSED.strip().splitlines()).split("|")]
"""Forms that a URL parser and an HTTP client, or two parsers, could read in two ways."""

FORBIDDEN = """
    0.0.0.0 0.1.2.3 100.64.0.1 100.100.100.200 168.63.129.16 169.254.169.254 192.0.0.192 192.0.2.1 192.88.99.1
    198.18.0.1 198.51.100.7 203.0.113.9 224.0.0.1 240.0.0.1 255.255.255.255 :: ::127.0.0.1 ::ffff:127.0.0.1
    ::ffff:169.254.169.254 ::ffff:8.8.8.8 64:ff9b::7f00:1 64:ff9b::a9fe:a9fe 64:ff9b:1::1 100::1 2001::1 2001:0:4136::1
    2001:10::1 2001:db8::1 2002:7f00:1:: 2002:a9fe:a9fe::1 3fff::1 3ffe::1 5f00::1 fe80::1 fe80::1%lo fec0::1 ff02::1
    fd00:ec2::254 not-an-address 127.1
""".split()
PRIVATE = "127.0.0.1 127.255.255.254 10.0.0.1 172.16.0.1 172.31.255.255 192.168.1.1 ::1 fc00::1 fd12:3456::1".split()
