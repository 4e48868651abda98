"""Function words: they occur in texts about anything and tell none of them apart."""

__all__ = ["ENGLISH"]

# Snowball's English list, https://snowballstem.org/algorithms/english/stop.txt, cut at apostrophes
# as words of texts are; of "can't", "let's" and "won't" nothing is left that is not also a word
# that says something.
_ENGLISH = """
    i me my myself we our ours ourselves you your yours yourself yourselves he him his himself
    she her hers herself it its itself they them their theirs themselves what which who whom this
    that these those am is are was were be been being have has had having do does did doing would
    should could ought cannot a an the and but if or because as until while of at by for with
    about against between into through during before after above below to from up down in out on
    off over under again further then once here there when where why how all any both each few
    more most other some such no nor not only own same so than too very
    re ve ll aren couldn didn doesn don hadn hasn haven isn mustn shan shouldn wasn weren wouldn
"""

ENGLISH = frozenset(_ENGLISH.split())
"""English, in lower case."""
