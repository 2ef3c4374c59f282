//! SENDs that are not answered yet, found by the number in their id (RFC 4975 5.3).
//!
//! A ring: numbers count up, the oldest open transaction stands in front, so an answer is found without a search, in
//! whatever order answers come. Knows no messages, only the number of the message a chunk belongs to.

use crate::base::clock::Tick;
use crate::wire::msrp::write::Tid;
use std::collections::VecDeque;

/// Transactions remembered at one time, answered ones behind an unanswered one included. 1 MiB in chunks of 2 KiB is 512,
/// 1,024 messages are 1,024; eight times that leaves room for answers out of order, and 16 bits count them safely.
pub const TRANSACTIONS_MAX: usize = 8192;

/// What a transaction carries.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Carries {
    /// Nothing: the SEND that binds the connection.
    Binding,
    /// The empty chunk that gives a message up.
    GivingUp,
    /// A chunk of the message with this number.
    Chunk(u64),
}

/// One SEND.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Transaction {
    /// What it carries.
    pub carries: Carries,
    /// Octets of body.
    pub octets: usize,
    /// When it was submitted.
    pub at: Tick,
}

/// The open transactions of one session.
#[derive(Debug)]
pub struct Transactions {
    /// The session's part of every id.
    prefix: [u8; 16],
    /// `None` once answered, or never used.
    ring: VecDeque<Option<Transaction>>,
    /// Number of the ring's first.
    first: u16,
    /// Octets of body in open ones.
    octets: usize,
}

impl Transactions {
    /// None yet; their ids will begin with `prefix`.
    pub fn new(prefix: [u8; 16]) -> Transactions {
        Transactions { prefix, ring: VecDeque::new(), first: 0, octets: 0 }
    }

    /// The session's part of every id.
    pub fn prefix(&self) -> [u8; 16] {
        self.prefix
    }

    /// Octets of body that are unanswered.
    pub fn octets(&self) -> usize {
        self.octets
    }

    /// True when nothing is unanswered.
    pub fn is_empty(&self) -> bool {
        self.ring.is_empty()
    }

    /// True when no more are remembered.
    pub fn is_full(&self) -> bool {
        self.ring.len() >= TRANSACTIONS_MAX
    }

    /// The id of the next one.
    pub fn next_tid(&self) -> Tid {
        Tid::new(self.prefix, self.first.wrapping_add(self.ring.len() as u16))
    }

    /// Opens the next one.
    pub fn open(&mut self, transaction: Transaction) {
        self.octets += transaction.octets;
        self.ring.push_back(Some(transaction));
    }

    /// Uses the next number up without a transaction: its id may not be used.
    pub fn skip(&mut self) {
        self.ring.push_back(None);
        self.retire();
    }

    /// The transaction with this id is answered; `None` for a stranger, and for one that was answered before.
    //= RFC 4975 7.2: the transaction identifier of a response MUST match that of the request
    pub fn answered(&mut self, tid: &[u8]) -> Option<Transaction> {
        let number = Tid::number_of(tid)?;
        if !tid.starts_with(&self.prefix) {
            return None;
        }
        let transaction = self.ring.get_mut(usize::from(number.wrapping_sub(self.first)))?.take()?;
        self.octets -= transaction.octets;
        self.retire();
        Some(transaction)
    }

    /// Nobody waits for the answers to this message's chunks any more.
    pub fn release(&mut self, seq: u64) {
        for place in &mut self.ring {
            if let Some(transaction) = place
                && transaction.carries == Carries::Chunk(seq)
            {
                self.octets -= transaction.octets;
                *place = None;
            }
        }
        self.retire();
    }

    /// Nobody waits for anything any more. Numbers go on.
    pub fn release_all(&mut self) {
        self.first = self.first.wrapping_add(self.ring.len() as u16);
        self.ring.clear();
        self.octets = 0;
    }

    /// The one that has been open longest, and its number.
    pub fn oldest(&self) -> Option<(u16, &Transaction)> {
        self.ring.front().and_then(Option::as_ref).map(|oldest| (self.first, oldest))
    }

    /// Forgets answered ones in front of the first that is not.
    fn retire(&mut self) {
        while let Some(None) = self.ring.front() {
            self.ring.pop_front();
            self.first = self.first.wrapping_add(1);
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn open(transactions: &mut Transactions, seq: u64) -> [u8; 20] {
        let tid = transactions.next_tid();
        transactions.open(Transaction { carries: Carries::Chunk(seq), octets: 10, at: Tick(seq) });
        tid.0
    }

    #[test]
    fn answers_in_any_order_find_their_transaction_once() {
        let mut transactions = Transactions::new(*b"0123456789abcdef");
        let tids: Vec<_> = (0..5).map(|seq| open(&mut transactions, seq)).collect();
        for n in [3usize, 0, 4, 1, 2] {
            let answered = transactions.answered(&tids[n]).unwrap();
            assert_eq!(answered.carries, Carries::Chunk(n as u64));
            assert_eq!(transactions.answered(&tids[n]), None);
        }
        assert!(transactions.is_empty());
        assert_eq!(transactions.octets(), 0);
    }

    #[test]
    fn a_stranger_with_a_number_of_ours_is_a_stranger() {
        let mut transactions = Transactions::new(*b"0123456789abcdef");
        open(&mut transactions, 0);
        for tid in [
            &b"1123456789abcdef0000"[..],
            b"0123456789abcdef0001",
            b"0000",
            b"",
            b"0123456789abcdef00000",
            b"0123456789abcdefx000",
        ] {
            assert_eq!(transactions.answered(tid), None);
        }
        assert!(transactions.answered(b"0123456789abcdef0000").is_some());
    }

    #[test]
    fn numbers_wrap_after_65536() {
        let mut transactions = Transactions::new([b'a'; 16]);
        for seq in 0..70_000 {
            let tid = open(&mut transactions, seq);
            assert_eq!(transactions.answered(&tid).map(|answered| answered.carries), Some(Carries::Chunk(seq)));
        }
        assert_eq!(transactions.next_tid().0, *b"aaaaaaaaaaaaaaaa1170");
    }
}
