import pytest
from hypothesis import given
from hypothesis import strategies as st

from posttrain.data.pii import check_digit, find, is_rrn, mask


def test_check_digit_by_hand() -> None:
    # 9*2+0*3+0*4+1*5+0*6+1*7 + 1*8+2*9+3*2+4*3+5*4+6*5 = 124; 11 - 124 % 11 = 8
    assert check_digit("900101123456") == 8
    # the same digits but gender 5: 124 + 4*8 = 156; 13 - 156 % 11 = 11, last digit 1
    assert check_digit("900101523456") == 1


@pytest.mark.parametrize(
    ("number", "has_hyphen", "expected"),
    [
        ("9001011234568", True, True),
        ("9001011234568", False, True),
        ("9001011234567", True, False),  # check digit
        ("9001015234561", True, True),  # a foreigner's
        ("9013011234568", True, False),  # month 13
        ("9002301234568", True, False),  # 30 February
        ("2010153123456", True, True),  # born after the reform: the date alone
        ("2010153123456", False, False),  # 13 bare digits that nothing confirms
        ("2009153123456", True, False),  # before it: the check digit (4) does not fit
        ("8801234567890", False, False),  # a Korean barcode: born 2088
    ],
)
def test_rrn(number: str, has_hyphen: bool, expected: bool) -> None:
    assert is_rrn(number, has_hyphen) is expected


@pytest.mark.parametrize(
    "text",
    [
        "주민번호 900101-1234568 입니다",
        "9001011234568",
        "900101 - 1234568",
        "９００１０１－１２３４５６８",
        "900101\u200b-1234568번",
    ],
)
def test_rrn_is_found_as_people_write_it(text: str) -> None:
    assert mask(text).count("[rrn]") == 1


@pytest.mark.parametrize(
    "text",
    [
        *("010-1234-5678", "010.1234.5678", "010 1234 5678", "01012345678", "011-234-5678"),
        *("02-123-4567", "02)1234-5678", "(031) 123-4567", "064-123-4567", "070-1234-5678"),
        *("+82 10-1234-5678", "+821012345678", "+82-2-1234-5678", "+82 (0)10 1234 5678"),
        *("전화는 010-1234-5678로 주세요.", "tel:010-1234-5678", "０１０－１２３４－５６７８"),
    ],
)
def test_phone_numbers_are_found(text: str) -> None:
    assert "[phone]" in mask(text)


@pytest.mark.parametrize(
    "text",
    [
        *(
            "오전 11시 30분부터 12:30까지",
            "요금은 12,000원, 왕복 1,234,567원",
            "2024-03-05",
            "2024.03.05",
        ),
        *("05-12-2024", "02:30:4567", "1588-1234", "ISBN 978-89-01-12345-6", "0.1234567890"),
        *("좌석 02-12", "버전 1.02.345.6789", "주문 20240305-0101234", "카드 1234-0101-2345-6789"),
        *("사백 원, 010번 버스", "192.168.010.123", "우편번호 06234", "제2024-0123호", "031호"),
        *("이메일은 없음 @", "a@b", "@user 님", "3@5", "user@localhost"),
    ],
)
def test_times_fees_dates_and_codes_are_left_alone(text: str) -> None:
    assert mask(text) == text


def test_email_is_found_within_korean() -> None:
    assert (
        mask("메일(kim.cs+a@example.co.kr)로, 또는 b@x.io에") == "메일([email])로, 또는 [email]에"
    )


def test_find_gives_the_place() -> None:
    assert find("email", "to: a@b.kr") == (4, 10)
    assert find("phone", "to: a@b.kr") is None


@given(st.text())
def test_masking_again_finds_nothing(text: str) -> None:
    masked = mask(text)
    assert mask(masked) == masked
