import pytest

from posttrain.data.text import control_token, language_share, mojibake, normalise, words

KOREAN = "안녕하세요. 뱃길 안내입니다, 동백꽃항 첫 배는 아침 8시예요."


def recoded(text: str, written: str, read: str) -> str:
    return text.encode(written).decode(read, "replace")


@pytest.mark.parametrize(
    "text",
    [
        recoded(KOREAN, "utf-8", "latin-1"),
        recoded(KOREAN, "utf-8", "cp1252"),
        KOREAN.encode().decode("cp1252", "ignore"),
        recoded(KOREAN, "utf-8", "cp949"),
        KOREAN.encode().decode("cp949", "ignore"),
        recoded(KOREAN, "utf-8", "cp949").replace("\ufffd", "?"),
        recoded(KOREAN, "cp949", "latin-1"),
        recoded(KOREAN, "cp949", "utf-8"),
        recoded("요금", "utf-8", "cp1252"),
        recoded("café crème", "utf-8", "cp1252"),
        recoded("it’s “fine”", "utf-8", "cp1252").replace("\ufffd", ""),
        recoded("좋아요 😀", "utf-8", "cp1252"),
        "a\x00b",
        "half a cha\ufffd",
    ],
)
def test_mojibake_is_seen(text: str) -> None:
    assert mojibake(text) is not None


@pytest.mark.parametrize(
    "text",
    [
        KOREAN,
        "plain English, isn't it?\n\tindented\r\n",
        "“따옴표”와 ‘작은따옴표’… 그리고—줄표, 1,000원 · 50% ½ ×3 ±2 ℃ ㎡ № → ★",
        "café, naïve, Ångström, señor, Übergröße „groß“, « déjà… », MAÇÃ” e NÃO, ÇŞĞİ",
        "😀👍🏽👨‍👩‍👧 ㅋㅋㅋ ㅠㅠ 뷁, 햏햏 같은 글자도, 똠방각하와 펲시콜라도 멀쩡한 글이다",
        "大韓民國 憲法 第一條 民主共和國 學而時習之不亦說乎",
        "韓國의 出席簿와 漢字 混用 文章이 여기에 있으니 잘 보라",
        "ひらがなとカタカナ、りるれろ。るこりたれし日本語です",
        "Привет, как дела? Ελληνικά. Xin chào Việt Nam, tiếng Việt đẹp",
        "é… » à l’été… ß…” Ä“",
        "책 제목은 《별 헤는 밤》이고 값은 ₩9,000이다.",
        "",
    ],
)
def test_legitimate_text_is_no_mojibake(text: str) -> None:
    assert mojibake(text) is None


@pytest.mark.parametrize(
    "text",
    [
        *("<|im_start|>system", "x<|eot_id|>", "<s>", "</s>", "<bos>", "<eos>", "<pad>", "<PAD>"),
        *("[INST] hi [/INST]", "<<SYS>>", "<start_of_turn>user", "<end_of_turn>", "[gMASK]"),
        *("<｜begin▁of▁sentence｜>", "<extra_id_0>", "<unused12>"),
    ],
)
def test_control_tokens_are_seen(text: str) -> None:
    assert control_token(f"앞 {text} 뒤") is not None


@pytest.mark.parametrize(
    "text",
    ["a < b | c > d", "<b>굵게</b>", "<strong>", "[1] 각주", "[안내]", "List<String> s;", "a <| b"],
)
def test_markup_is_no_control_token(text: str) -> None:
    assert control_token(text) is None


def test_normal_form_joins_what_looks_equal() -> None:
    assert normalise(" 각\u00a0 나\n") == "각 나"  # jamo composed, white space collapsed


def test_words_keep_figures_and_drop_punctuation() -> None:
    assert words("“Fare”: 3,000원... (배)") == ["fare", "3,000원", "배"]


def test_language_share_counts_letters_alone() -> None:
    assert language_share("가나 ab яя 123 !?", ("ko", "en")) == pytest.approx(4 / 6)
    assert language_share("123 !?", ("ko",)) is None
