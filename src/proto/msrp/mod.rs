//! MSRP's machines (RFC 4975 sections 5 and 7): what a session sends, what it answers, and when it is over.
