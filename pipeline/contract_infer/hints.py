"""Words in headers and values that hint at what a column is: hints beside what the values themselves say."""

import re


def _set(text: str) -> frozenset[str]:
    return frozenset(text.split())


TIME = _set("time timestamp ts date datetime at when created occurred stamp day")
USER = _set("user u customer visitor member client account buyer person viewer reader subscriber session profile guest")
ITEM = _set(
    "item i product article movie film song track artist sku stock asin isbn book video listing content offer recipe "
    "location place page news show game course ad"
)
NO_ID = _set("invoice order transaction event request basket log row record price quantity amount feature")
TITLE = _set("title name description label headline caption")
KIND = _set("type event action behavior behaviour interaction kind activity verb")
RATING = _set("rating rate stars score grade")
AMOUNT = _set("quantity qty amount units count")
SPAN = _set("span day week batch chunk period hour month run round")
NO_SPAN = _set("part shard file version v")

# Parts of the names of interaction types, from the weakest to the strongest:
WEAK = r"view|click|open|visit|detail|watch|listen|read|play|stream|browse|show"
MEDIUM = r"cart|basket|add|wish|save|bookmark|share|follow|download|rate"
STRONG = r"buy|bought|purchas|order|transaction|checkout|like|love|fav|subscri|rent|install|pay|convert"
NEGATIVE = (
    r"dislike|unlike|cancel|return|refund|remove|delete|skip|hide|block|report|downvote|unfollow|unsubscri|not.?int"
)
IGNORED = r"impression|log.?in|log.?out|error|search|ping|heartbeat|session"


def tokens(name: str) -> frozenset[str]:
    """Words of a header: CustomerID, customer_id and customerid have `customer` (and `id`)."""
    parts = {part.lower() for part in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+", name)}
    return frozenset(
        parts | {part.removesuffix(tail) for part in parts for tail in ("id", "ids", "no", "code", "s")} - {""}
    )
