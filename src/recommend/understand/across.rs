//! What tells the languages of a catalogue apart, taken out of what a text means. In: mean embeddings of each language's items. Out: a text's
//! embedding that is about as near to one language's items as to another's, unless their contents differ.
//!
//! Multilingual encoders put texts of one language together: with multilingual-e5-small the mean items of two languages are .39 apart, and any English
//! item is nearer to English words than the Chinese item that is meant (by cosine the right one is among the first five for 4 of 60 texts
//! whose item the demo has in the other language only). Most of that is a few directions, one less than there are languages, and what is taken out of
//! the text's embedding is out of its product with every item's: 40 of the 60. So the index stays as it is. Through the whole ranking, where words
//! count beside it, 35 instead of 5 are among the first twelve, and what is in the text's own language stays in front (30 of 30, as before). After Libovický, Rosa & Fraser 2020 (arXiv:2004.05160) and
//! Yang et al. 2021 (arXiv:2109.04740), who subtract means and main directions of languages.
//!
//! A catalogue of one language has no such direction: nothing changes there.

use crate::domain::Embedding;

/// Fewer items of a language do not tell where it lies.
pub(super) const FEWEST_ITEMS: usize = 20;
/// A direction that is shorter than this is none: languages of one encoder are .3 to .4 apart, what shops sell in them .1.
const LEAST_LENGTH: f32 = 0.15;
/// One that is shorter than so many of its standard errors is chance.
const LEAST_ERRORS: f32 = 2.0;

/// The directions in which a catalogue's languages differ, at right angles to each other.
#[derive(Debug, Clone, Default, PartialEq)]
pub(in crate::recommend) struct Across {
    directions: Vec<Vec<f32>>,
}

/// Sum of embeddings of one language's items.
#[derive(Debug, Clone)]
pub(super) struct LanguageSum {
    sum: Vec<f32>,
    items: usize,
}

impl LanguageSum {
    pub(super) fn new(width: usize) -> Self {
        Self { sum: vec![0.0; width], items: 0 }
    }

    pub(super) fn add(&mut self, embedding: &Embedding) {
        self.sum.iter_mut().zip(embedding.iter()).for_each(|(sum, x)| *sum += x);
        self.items += 1;
    }

    /// With its squared standard error: embeddings have length 1, so their variance is what is left to 1.
    fn mean(&self) -> (Vec<f32>, f32) {
        let mean: Vec<f32> = self.sum.iter().map(|sum| sum / self.items as f32).collect();
        let error = (1.0 - dot(&mean, &mean)).max(0.0) / self.items as f32;
        (mean, error)
    }
}

impl Across {
    /// Of the languages that have enough items, the one with the most first.
    pub(super) fn between(languages: &[LanguageSum]) -> Self {
        let mut means = languages.iter().filter(|language| language.items >= FEWEST_ITEMS).map(LanguageSum::mean);
        let Some((first, first_error)) = means.next() else { return Self::default() };
        let mut directions: Vec<Vec<f32>> = Vec::new();
        for (mean, error) in means {
            let mut direction: Vec<f32> = mean.iter().zip(&first).map(|(x, y)| x - y).collect();
            directions.iter().for_each(|known| take(&mut direction, known, 1.0));
            let length = dot(&direction, &direction).sqrt();
            if length >= LEAST_LENGTH.max(LEAST_ERRORS * (first_error + error).sqrt()) {
                direction.iter_mut().for_each(|x| *x /= length);
                directions.push(direction);
            }
        }
        Self { directions }
    }

    /// The text's embedding without this `share` of what tells languages apart.
    pub(in crate::recommend) fn neutral(&self, text: &Embedding, share: f32) -> Embedding {
        if self.directions.is_empty() || share <= 0.0 {
            return text.clone();
        }
        let mut vector = text.to_vec();
        let width = vector.len();
        self.directions.iter().filter(|direction| direction.len() == width).for_each(|direction| take(&mut vector, direction, share.min(1.0)));
        Embedding::new(vector).unwrap_or_else(|_| text.clone()) // nothing is left of a text that was nothing but its language
    }
}

/// Takes `share` of what lies in a direction of length 1 out of `vector`.
fn take(vector: &mut [f32], direction: &[f32], share: f32) {
    let part = share * dot(vector, direction);
    vector.iter_mut().zip(direction).for_each(|(x, y)| *x -= part * y);
}

fn dot(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(x, y)| x * y).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn embedding(x: &[f32]) -> Embedding {
        Embedding::new(x.to_vec()).unwrap()
    }

    /// Items of one language: about two topics, and leaning to where the language lies.
    fn language(lies: [f32; 2]) -> LanguageSum {
        let mut sum = LanguageSum::new(4);
        for topic in [[1.0, 0.0], [0.0, 1.0]].repeat(FEWEST_ITEMS) {
            sum.add(&embedding(&[topic[0], topic[1], lies[0], lies[1]]));
        }
        sum
    }

    #[test]
    fn a_text_is_nearest_to_what_it_is_about_in_whatever_language() {
        let across = Across::between(&[language([0.8, 0.0]), language([-0.8, 0.0])]);
        let text = embedding(&[1.0, 0.2, 0.8, 0.0]);
        let (same_language, same_topic) = (embedding(&[0.0, 1.0, 0.8, 0.0]), embedding(&[1.0, 0.0, -0.8, 0.0]));
        assert!(text.cosine(&same_language) > text.cosine(&same_topic));

        let neutral = across.neutral(&text, 1.0);

        assert!(neutral.cosine(&same_topic) > neutral.cosine(&same_language));
        assert_eq!(across.neutral(&text, 0.0), text);
    }

    #[test]
    fn three_languages_have_two_directions_and_all_are_equally_near() {
        let lies = [[0.8, 0.0], [-0.8, 0.0], [0.0, 0.8]];
        let across = Across::between(&lies.map(language));

        let neutral = across.neutral(&embedding(&[1.0, 0.0, 0.5, 0.3]), 1.0);

        assert_eq!(across.directions.len(), 2);
        let near = lies.map(|lies| neutral.cosine(&embedding(&[1.0, 0.0, lies[0], lies[1]])));
        assert!(near.iter().all(|cosine| (cosine - near[0]).abs() < 1e-5), "{near:?}");
    }

    #[test]
    fn one_language_few_items_or_languages_in_one_place_change_nothing() {
        let mut few = LanguageSum::new(4);
        few.add(&embedding(&[0.0, 0.0, 0.0, 1.0]));
        let text = embedding(&[1.0, 0.2, 0.8, 0.0]);

        for languages in [vec![], vec![language([0.8, 0.0])], vec![language([0.8, 0.0]), few], vec![language([0.8, 0.0]), language([0.8, 0.01])]] {
            assert_eq!(Across::between(&languages).neutral(&text, 1.0), text);
        }
    }

    #[test]
    fn hostile_numbers_leave_a_text_that_can_be_searched_for() {
        let across = Across::between(&[language([0.8, 0.0]), language([-0.8, 0.0])]);

        assert_eq!(across.neutral(&embedding(&[0.0, 0.0, 1.0, 0.0]), 1.0).len(), 4);
        assert_eq!(across.neutral(&embedding(&[1.0, 0.0]), 1.0), embedding(&[1.0, 0.0]));
    }
}
