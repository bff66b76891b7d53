"""Which checksum does a list give a file?

Lists are as sha256sum and sha512sum print them, with or without --tag: "DIGEST *NAME", "SHA256 (NAME) = DIGEST".
"""
