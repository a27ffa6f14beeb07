"""What fills a context, what of it is used, and when it runs out."""

from __future__ import annotations

from unspool.context.forecast import forecast_tokens
from unspool.context.format import format_ctx_profile, format_growth_prediction
from unspool.context.growth import AlertLevel, GrowthPrediction, GrowthSnapshot, predict_growth
from unspool.context.profile import (
    BlockVerdict,
    ClassBucket,
    ClassificationResult,
    ConsumerEntry,
    ContextData,
    CtxProfileResult,
    analyze_context,
)
from unspool.context.tokens import estimate_tokens
from unspool.events import CtxMessage

__all__ = [
    "AlertLevel",
    "BlockVerdict",
    "ClassBucket",
    "ClassificationResult",
    "ConsumerEntry",
    "ContextData",
    "CtxMessage",
    "CtxProfileResult",
    "GrowthPrediction",
    "GrowthSnapshot",
    "analyze_context",
    "estimate_tokens",
    "forecast_tokens",
    "format_ctx_profile",
    "format_growth_prediction",
    "predict_growth",
]
