"""Debiasing patches of parameter-efficient fine-tuning: networks, patches, data, measures."""
