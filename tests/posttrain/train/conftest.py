"""Tokens of the records that all tests share."""

import pytest

from posttrain.artifacts import BaseModel, Records, Tokens
from posttrain.data.template import template
from posttrain.data.tokenize import tokenize
from posttrain.recipe.template import TemplateRecipe
from posttrain.recipe.tokenize import TokenizeRecipe


@pytest.fixture
def tokens(records: Records, base: BaseModel) -> Tokens:
    chats = template(records, base, TemplateRecipe())
    return tokenize(chats, base, TokenizeRecipe(max_length=64, block_size=64))
