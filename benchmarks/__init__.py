"""Figures behind the claims in docs/benchmarks.md. Ratios within one run: machines differ and are noisy.

python -m benchmarks            all of them
python -m benchmarks loop       one of them
"""
