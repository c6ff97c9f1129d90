//! Sentencepiece's Unigram model (Kudo 2018, arXiv:1804.10959) in little memory: words to the ids of their likeliest pieces.
//!
//! The vocabulary is a trie in three arrays, 9 bytes a node: XLM-RoBERTa's 250,000 pieces take 7 MB, where the trie of the `tokenizers` crate,
//! a hash map a node, takes hundreds. Reading allocates nothing but the path through the word.
//! Scores are added as f32, as sentencepiece does, so that near ties fall the same way.

use std::collections::HashSet;

/// A node that ends no piece.
const NONE: u32 = u32::MAX;

/// How much less likely than the rarest piece a character is that no piece has, as in sentencepiece.
const UNKNOWN_PENALTY: f32 = 10.0;

/// Pieces and their scores, ready to be looked up.
pub(super) struct Unigram {
    /// The byte that leads to each node; nodes by depth, the children of a node side by side and in order.
    labels: Vec<u8>,
    /// Where the children of each node begin; they end where the next node's begin.
    children: Vec<u32>,
    /// The piece that ends at each node.
    pieces: Vec<u32>,
    scores: Vec<f32>,
    unknown: u32,
    unknown_score: f32,
}

/// The best way to a place in the word.
#[derive(Clone, Copy)]
struct Best {
    score: f32,
    from: usize,
    piece: u32,
}

impl Unigram {
    /// From pieces in the order of their ids. `never` are ids that no text may become: special tokens. `None` where `unknown` is no id.
    pub(super) fn new(vocabulary: &[(&str, f32)], unknown: usize, never: &HashSet<usize>) -> Option<Self> {
        let scores: Vec<f32> = vocabulary.iter().map(|(_, score)| *score).collect();
        vocabulary.get(unknown)?;
        let least = scores.iter().copied().fold(f32::INFINITY, f32::min);
        let readable = vocabulary.iter().enumerate().filter(|(id, (piece, _))| *id != unknown && !never.contains(id) && !piece.is_empty());
        let mut sorted: Vec<(&[u8], u32)> = readable.map(|(id, (piece, _))| Some((piece.as_bytes(), u32::try_from(id).ok()?))).collect::<Option<_>>()?;
        sorted.sort_unstable();
        let (labels, children, pieces) = trie(&sorted)?;
        Some(Self { labels, children, pieces, scores, unknown: u32::try_from(unknown).ok()?, unknown_score: least - UNKNOWN_PENALTY })
    }

    /// Ids there are.
    pub(super) fn len(&self) -> usize {
        self.scores.len()
    }

    /// Appends the ids of `word` (one stretch of text between blanks) to `ids`. Unknown characters that follow each other are one unknown token.
    pub(super) fn read(&self, word: &str, ids: &mut Vec<u32>) {
        // Every end of a character is reached: by a piece or as an unknown one. Other places stay as they are.
        let mut best = vec![Best { score: f32::NEG_INFINITY, from: 0, piece: NONE }; word.len() + 1];
        best[0].score = 0.0;
        for (start, c) in word.char_indices() {
            let here = best[start].score;
            let mut alone = false;
            let mut node = 0;
            for (end, byte) in (start + 1..).zip(&word.as_bytes()[start..]) {
                let Some(next) = self.child(node, *byte) else { break };
                node = next;
                let piece = self.pieces[node];
                if piece == NONE {
                    continue;
                }
                alone |= end - start == c.len_utf8();
                let score = here + self.scores[piece as usize];
                if best[end].piece == NONE || score > best[end].score {
                    best[end] = Best { score, from: start, piece };
                }
            }
            let end = start + c.len_utf8();
            if !alone && (best[end].piece == NONE || here + self.unknown_score > best[end].score) {
                best[end] = Best { score: here + self.unknown_score, from: start, piece: self.unknown };
            }
        }
        let first = ids.len();
        let mut at = word.len();
        while at > 0 {
            let Best { from, piece, .. } = best[at];
            if piece != self.unknown || ids[first..].last() != Some(&piece) {
                ids.push(piece);
            }
            at = from;
        }
        ids[first..].reverse();
    }

    fn child(&self, node: usize, byte: u8) -> Option<usize> {
        let (start, end) = (self.children[node] as usize, self.children[node + 1] as usize);
        self.labels[start..end].binary_search(&byte).ok().map(|at| start + at)
    }
}

/// Labels, first children (one more than nodes) and pieces of the trie of `sorted`; `None` past 2^32 nodes. Node 0 is the root.
fn trie(sorted: &[(&[u8], u32)]) -> Option<(Vec<u8>, Vec<u32>, Vec<u32>)> {
    let (mut labels, mut children, mut pieces) = (vec![0], Vec::new(), Vec::new());
    // The pieces below each node, and how much of them led to it.
    let mut below = vec![(0, sorted.len(), 0)];
    let mut node = 0;
    while let Some((mut start, end, depth)) = below.get(node).copied() {
        let mut piece = NONE;
        while start < end && sorted[start].0.len() == depth {
            piece = sorted[start].1;
            start += 1;
        }
        pieces.push(piece);
        children.push(u32::try_from(labels.len()).ok()?);
        while start < end {
            let label = sorted[start].0[depth];
            let next = start + sorted[start..end].partition_point(|(piece, _)| piece[depth] == label);
            labels.push(label);
            below.push((start, next, depth + 1));
            start = next;
        }
        node += 1;
    }
    children.push(u32::try_from(labels.len()).ok()?);
    Some((labels, children, pieces))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(vocabulary: &[(&str, f32)], word: &str) -> Vec<u32> {
        let mut ids = vec![77];
        Unigram::new(vocabulary, 0, &HashSet::from([1])).unwrap().read(word, &mut ids);
        ids.split_off(1)
    }

    #[test]
    fn the_likeliest_pieces_win_not_the_longest() {
        let vocabulary = [("<unk>", 0.0), ("<s>", 0.0), ("a", -3.0), ("b", -3.0), ("ab", -5.0), ("abc", -20.0), ("c", -3.0), ("bc", -7.0)];

        assert_eq!(read(&vocabulary, "abc"), [4, 6]);
        assert_eq!(read(&vocabulary, "bc"), [3, 6]);
        assert!(read(&vocabulary, "").is_empty());
    }

    #[test]
    fn unknown_characters_in_a_row_are_one_token() {
        let vocabulary = [("<unk>", 0.0), ("<s>", 0.0), ("好", -3.0), ("好的", -1.0)];

        assert_eq!(read(&vocabulary, "龘龘好龘"), [0, 2, 0]);
        assert_eq!(read(&vocabulary, "好的"), [3]);
    }

    #[test]
    fn special_tokens_are_never_read_out_of_a_text() {
        let vocabulary = [("<unk>", 0.0), ("<s>", 0.0), ("<", -9.0), ("s", -9.0), (">", -9.0)];

        assert_eq!(read(&vocabulary, "<s>"), [2, 3, 4]);
        assert_eq!(read(&vocabulary, "<unk>"), [2, 0, 4]);
        assert!(Unigram::new(&vocabulary, 9, &HashSet::new()).is_none());
    }
}
