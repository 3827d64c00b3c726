"""What text is: its normal form, its fingerprint, its scripts, and signs of damage or forgery.

Pure functions of strings. Heuristics say where they draw the line; they look at characters only.
"""

import hashlib
import re
import unicodedata

_CONTROL_TOKENS = re.compile(
    r"<\|[^\s<>|]{1,64}\|>"  # ChatML, Llama 3, Qwen, Phi
    r"|<｜[^\s<>｜]{1,64}｜>"  # DeepSeek: full-width bars
    r"|</?s>|</?(?:bos|eos|pad|unk|mask|sep|cls)>"
    r"|\[/?(?:INST|AVAILABLE_TOOLS|TOOL_CALLS|TOOL_RESULTS|SYSTEM_PROMPT)\]|<</?SYS>>"  # Mistral
    r"|<(?:start|end)_of_(?:turn|image)>"  # Gemma
    r"|\[(?:CLS|SEP|PAD|MASK|UNK|BOS|EOS|gMASK)\]|<extra_id_\d+>|<unused\d+>",
    re.IGNORECASE,
)
# C0 and C1 controls but white space (NEL included): text read with the wrong encoding has them.
_CONTROL_CHARACTERS = re.compile("[\x00-\x08\x0e-\x1b\x7f\x80-\x84\x86-\x9f]")
# UTF-8 bytes 80-BF as CP1252 shows them.
_TAIL = "[\x80-\xbf€‚ƒ„…†‡ˆ‰Š‹ŒŽ‘’“”•–—˜™š›œžŸ]"
_UTF8_AS_LATIN = re.compile(
    # é as Ã©, a no-break space as Â and itself; ª » left out: they may close a word in capitals.
    "[ÃÂ][\xa0-\xa9\xab-\xba\xbc-\xbf]"
    f"|â€{_TAIL}|ï¿½|ï»¿|ðŸ{_TAIL}{_TAIL}"  # quotes and dashes; U+FFFD; BOM; emoji
    f"|(?:[à-ï]{_TAIL}{_TAIL}\\s?){{2}}"  # two letters of three bytes: Hangul, kana, Hanja
)
_CP949_AS_LATIN = re.compile("(?:[°-È][¡-þ]){2,}")  # 안녕 as ¾È³ç: lead B0-C8, trail A1-FE
_HANGUL = re.compile("[가-힣]")

_LATIN = "A-Za-zÀ-ÖØ-öø-ɏḀ-ỿ"
_HAN = "一-鿿㐀-䶿豈-﫿"
SCRIPTS: dict[str, str] = {
    "ko": "가-힣ㄱ-ㆎᄀ-ᇿ",
    "ja": f"ぁ-ゟァ-ヿ{_HAN}",
    "zh": _HAN,
    "ru": "Ѐ-ӿ",
    "ar": "\u0600-\u06ff",
    "hi": "\u0900-\u097f",
    "th": "\u0e00-\u0e7f",
    "en": "A-Za-z",
    **dict.fromkeys(("de", "es", "fr", "it", "pt", "vi"), _LATIN),
}
"""Language -> its letters, as the inside of a regular expression's class."""


def normalise(text: str) -> str:
    """NFC, white space collapsed: two texts that look equal become equal."""
    return " ".join(unicodedata.normalize("NFC", text).split())


def fingerprint(text: str) -> bytes:
    """16 bytes that stand for a text."""
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()


def words(text: str) -> list[str]:
    """Words in lower case, punctuation at their edges dropped.

    Split on white space: Korean writes spaces, and copies agree word for word, so the
    morphological analyser that DataTrove takes for Korean (kiwipiepy and its model) finds no more.
    Figures are kept, unlike in DataTrove's own normal form: texts that differ in a figure state two
    facts.
    """
    found = (word.strip(_EDGES) for word in normalise(text).casefold().split())
    return [word for word in found if word]


_EDGES = ".,;:!?\"'()[]{}<>…·‘’“”「」『』《》〈〉、。，！？~-–—*_#"


def control_token(text: str) -> str | None:
    """The first piece of text that has the shape of a model's control token."""
    if "<" not in text and "[" not in text:
        return None
    found = _CONTROL_TOKENS.search(text)
    return found.group() if found else None


def mojibake(text: str) -> str | None:
    """Why the text looks read in a wrong encoding, or None.

    Seen: U+FFFD and control characters; UTF-8 read as Latin-1 or CP1252; CP949 read as Latin-1;
    UTF-8 read as CP949, even where the bytes that failed were dropped or became question marks.
    """
    if text.isascii():
        found = _CONTROL_CHARACTERS.search(text)
        return f"control character U+{ord(found.group()):04X}" if found else None
    if "\ufffd" in text:
        return "replacement character U+FFFD"
    if found := _CONTROL_CHARACTERS.search(text):
        return f"control character U+{ord(found.group()):04X}"
    if found := _UTF8_AS_LATIN.search(text):
        return f"UTF-8 read as CP1252: {found.group()!r}"
    if found := _CP949_AS_LATIN.search(text):
        return f"CP949 read as Latin-1: {found.group()!r}"
    return "UTF-8 read as CP949" if _is_utf8_as_cp949(text) else None


def _is_utf8_as_cp949(text: str) -> bool:
    encoded = text.encode("cp949", "ignore")
    # Of Korean text's CP949 bytes next to none decode as Hangul in UTF-8 (about 1 character in 100
    # replacements); of garbage that kept its bytes at least a third do.
    decoded = encoded.decode("utf-8", "replace")
    num_hangul = len(_HANGUL.findall(decoded))
    if num_hangul >= 2 and num_hangul >= 0.3 * decoded.count("\ufffd"):
        return True
    # Where bytes were lost: syllables outside KS X 1001, such as 뷁, are rare in Korean and the
    # greater part of garbage.
    hangul = "".join(_HANGUL.findall(text)).encode("cp949")
    pairs = zip(hangul[::2], hangul[1::2], strict=True)
    num_rare = sum(lead < 0xB0 or trail < 0xA1 for lead, trail in pairs)
    return num_rare >= 4 and num_rare >= 0.4 * len(hangul) / 2


def language_share(text: str, languages: tuple[str, ...]) -> float | None:
    """Share of letters that belong to the languages' scripts; None where there are no letters."""
    letters = re.sub(r"[\W\d_]", "", unicodedata.normalize("NFC", text))
    if not letters:
        return None
    foreign = re.sub(f"[{''.join(SCRIPTS[language] for language in languages)}]", "", letters)
    return 1 - len(foreign) / len(letters)
