"""The Vlasov-Poisson system in one space and one velocity dimension."""
